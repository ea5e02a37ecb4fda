"""Damage artifacts in every way, hold them to the gate, and write docs/mutated-artifacts.md.

    python benchmarks/mutated_artifacts.py --count 2000

Small networks are converted to every format. Each mutation damages a copy of one artifact: bits, lengths and whole
files of the phone file, the manifest, the reference vectors. Where the file is touched, half of the manifests lie: they
state the SHA-256 and the size of what is there, so that the runtime gets to see it. Then `mobilevit verify` judges the
copy on one runtime, and a file that passes answers further images, which the gate has not seen, as its original does.
Results are appended to `--out`, so that an interrupted run goes on where it stopped. Exit code 1 when a bar was missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
from small_networks import small_specs

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import MANIFEST, Artifact, open_artifact
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import MobileViTError
from mobilevit_sdk.files import hash_and_size, replacing
from mobilevit_sdk.parity import THRESHOLDS, compare, verify
from mobilevit_sdk.parity.runs import run_cases
from mobilevit_sdk.processes.child import run_in_child

TIMEOUT = 60.0  # seconds for one case of a network that takes a hundredth of one
UNSEEN = 8  # images that the gate has not seen

_HEAD = """# Mutated artifacts

Written by `{command}`.

**{count} mutations: {crashed} crashed the command, {hung} outlasted its timeout of {timeout:.0f} s by more than half,
and {wrong} of the {passing} that passed had another function than their original.**

Small networks of every family, converted to every format, are damaged and held to the gate. *Sealed*: the manifest
states the SHA-256 and the size of the damaged file, so that the runtime gets to see it. *Refused*: the command ends
with an error of one line before anything runs. *Passed* are mutations that change nothing that counts: a bit of a name,
of padding, or the last ones of a weight. Each of these files also answered {unseen} images that the gate has not seen,
and was held to its original there, at the threshold of its precision.

"""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a mutation: a status of the gate, "refused", or "crashed". `unseen_db` where it passed."""

    number: int
    artifact: str
    kind: str
    sealed: bool
    status: str
    reason: str
    seconds: float
    unseen_db: float | None = None
    wrong: bool = False


def main() -> int:
    """Mutate what is missing, then write the page; the exit code: 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="of mutations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/mutated-artifacts"), help="folder of what is measured")
    parser.add_argument("--page", type=Path, default=Path("docs/mutated-artifacts.md"), help="the page to write")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    originals = _originals(options.out / "originals")
    log = options.out / f"seed-{options.seed}.jsonl"
    done = [msgspec.json.decode(line, type=Outcome) for line in log.read_bytes().splitlines()] if log.exists() else []
    left = sorted(set(range(options.count)) - {outcome.number for outcome in done})
    with ThreadPoolExecutor(options.workers) as pool, log.open("ab") as file:
        for outcome in pool.map(lambda number: _try(number, options.seed, originals), left):
            done.append(outcome)
            file.write(msgspec.json.encode(outcome) + b"\n")
            file.flush()
            if len(done) % 50 == 0:
                print(f"{time.strftime('%H:%M:%S')} {len(done)} of {options.count}", file=sys.stderr)
    done = [outcome for outcome in done if outcome.number < options.count]
    command = f"python benchmarks/mutated_artifacts.py --count {options.count} --seed {options.seed}"
    write_page(done, command, options.page)
    return 1 if any(outcome.wrong or outcome.status == "crashed" or _hung(outcome) for outcome in done) else 0


def _originals(folder: Path) -> list[Artifact]:
    """One artifact of every family, format and precision; those that are there are kept."""
    artifacts: list[Artifact] = []
    for family, spec in small_specs().items():
        result = convert(random_checkpoint(spec, seed=0), out=folder / family, precisions=("fp32", "fp16"), check=False)
        if result.failures:
            raise SystemExit(f"{family} does not convert: {result.failures[0]}")
        artifacts += result.artifacts
    return artifacts


# Damages the artifact in a folder; the originals are there to borrow from.
Mutation = Callable[[Path, random.Random, Sequence[Artifact]], None]


def _flip_bits(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    file = _part(folder, chance)
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def _flip_bits_of_the_head(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    file = _part(folder, chance)
    content = bytearray(file.read_bytes())
    content[chance.randrange(min(256, len(content)))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def _cut(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    file = _part(folder, chance)
    content = file.read_bytes()
    file.write_bytes(content[: chance.randrange(len(content))])


def _blank(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    file = _part(folder, chance)
    content = bytearray(file.read_bytes())
    start = chance.randrange(len(content))
    length = min(chance.choice((4, 64, 4096)), len(content) - start)
    content[start : start + length] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    file.write_bytes(content)


def _swap(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    """The file of another artifact under this one's name: of another network, format or precision."""
    path = open_artifact(folder).path
    other = chance.choice([other for other in others if _name(other) != folder.name]).path
    _remove(path)
    (shutil.copytree if other.is_dir() else shutil.copyfile)(other, path)


def _lie(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    """One field of the manifest, at any depth, says something else, or nothing."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    place = manifest
    while True:
        key = chance.choice(list(place))
        if not (isinstance(place[key], dict) and place[key]) or chance.random() < 0.3:
            break
        place = place[key]
    if chance.random() < 0.2:
        del place[key]
    else:
        lies = (
            None,
            0,
            -1,
            1e308,
            "",
            "../secret",
            "/etc/passwd",
            "fp16",
            "fp32",
            "tflite",
            "coreml",
            [],
            {},
            "\x00",
            True,
        )
        place[key] = chance.choice(lies)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _spoil_vectors(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    file = folder / REFERENCE
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 8, 64))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content[: chance.choice((len(content), chance.randrange(len(content))))])


def _other_vectors(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    family = folder.name.partition("@")[0]
    other = chance.choice([other for other in others if _name(other).partition("@")[0] != family])
    shutil.copyfile(other.path.parent / REFERENCE, folder / REFERENCE)


OF_FILE: dict[str, Mutation] = {
    "bits": _flip_bits,
    "bits of the head": _flip_bits_of_the_head,
    "cut": _cut,
    "a block overwritten": _blank,
    "another file": _swap,
}
OF_PROOF: dict[str, Mutation] = {
    "a lying manifest": _lie,
    "bits of the vectors": _spoil_vectors,
    "other vectors": _other_vectors,
}


def _name(artifact: Artifact) -> str:
    return f"{artifact.path.parent.parent.name}@{artifact.path.parent.name}"


def _part(folder: Path, chance: random.Random) -> Path:
    """A file of the phone file, which may be a folder."""
    path = open_artifact(folder).path
    return chance.choice(sorted(file for file in path.rglob("*") if file.is_file())) if path.is_dir() else path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _seal(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["sha256"], manifest["bytes"] = hash_and_size(folder / manifest["file"])
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _try(number: int, seed: int, originals: Sequence[Artifact]) -> Outcome:
    chance = random.Random(f"{seed}-{number}")
    original = chance.choice(originals)
    kind = chance.choice([*OF_FILE, *OF_FILE, *OF_PROOF])
    sealed = kind in OF_FILE and chance.random() < 0.5
    name = _name(original)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        shutil.copytree(original.path.parent, folder)
        (OF_FILE | OF_PROOF)[kind](folder, chance, originals)
        if sealed:
            _seal(folder)
        started = time.monotonic()
        status, reason = _judge(folder)
        seconds = time.monotonic() - started
        outcome = Outcome(number, name, kind, sealed, status, reason, round(seconds, 2))
        if status != "passed":
            return outcome
        unseen_db = _unseen_db(original, folder)
        threshold = THRESHOLDS[original.manifest.precision].sqnr_db
        return msgspec.structs.replace(outcome, unseen_db=unseen_db, wrong=unseen_db < threshold)


RUNTIMES = {"coreml": "coreml-reference", "tflite": "litert-cpu", "executorch": "executorch"}


def _judge(folder: Path) -> tuple[str, str]:
    try:
        format_name = json.loads((folder / MANIFEST).read_bytes()).get("format")
        (verdict,) = verify([folder], runtimes=[RUNTIMES.get(str(format_name), "litert-cpu")], timeout=TIMEOUT)
    except MobileViTError as error:
        return "refused", str(error)
    except Exception as error:
        return "crashed", f"{type(error).__name__}: {error}"
    return verdict.status, verdict.reason or ""


def _unseen_db(original: Artifact, folder: Path) -> float:
    """The SQNR in dB of the file's answers to images that the gate has not seen, held to its original's; the worst."""
    manifest = original.manifest
    noise = np.random.default_rng(1)
    shape = (3, *manifest.spec.preprocessing.image_size)
    images = [noise.integers(0, 256, shape, np.uint8) for _ in range(UNSEEN // 2)]
    images += [np.roll(case.image, 5, axis=2) for case in original.reference().cases[: UNSEEN // 2]]
    cases = tuple(Case(f"unseen {i}", image) for i, image in enumerate(images))
    ref = original.on(RUNTIMES[manifest.format])
    expected, found = (
        run_in_child(run_cases, dataclasses.replace(ref, path=path), cases, threads=1)
        for path in (original.path, folder / original.path.name)
    )
    return compare(expected, found).sqnr_db.worst


def _hung(outcome: Outcome) -> bool:
    return outcome.seconds > 1.5 * TIMEOUT


def write_page(outcomes: Sequence[Outcome], command: str, page: Path) -> None:
    """A table by kind of mutation, and what went wrong, if anything did."""
    statuses = ("refused", "failed", "error", "passed", "crashed")
    rows = sorted({(outcome.kind, outcome.sealed) for outcome in outcomes})
    counts = Counter((outcome.kind, outcome.sealed, outcome.status) for outcome in outcomes)
    passing = [outcome for outcome in outcomes if outcome.status == "passed"]
    bad = [outcome for outcome in outcomes if outcome.wrong or outcome.status == "crashed" or _hung(outcome)]
    text = _HEAD.format(
        command=command,
        count=len(outcomes),
        crashed=sum(outcome.status == "crashed" for outcome in outcomes),
        hung=sum(map(_hung, outcomes)),
        wrong=sum(outcome.wrong for outcome in outcomes),
        passing=len(passing),
        timeout=TIMEOUT,
        unseen=UNSEEN,
    )
    text += f"| mutation | sealed | {' | '.join(statuses)} |\n| --- | --- |{' ---: |' * len(statuses)}\n"
    for kind, sealed in rows:
        cells = (str(counts[kind, sealed, status]) for status in statuses)
        text += f"| {kind} | {'yes' if sealed else ''} | {' | '.join(cells)} |\n"
    slowest = max(outcome.seconds for outcome in outcomes)
    text += f"\nThe slowest verdict took {slowest:.1f} s.\n"
    for outcome in bad:
        place = f"{outcome.number}: {outcome.artifact}, {outcome.kind}{', sealed' if outcome.sealed else ''}"
        text += f"\n- {place}: {outcome.status} {outcome.reason} {outcome.unseen_db or ''}"
    with replacing(page) as fresh:
        fresh.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
