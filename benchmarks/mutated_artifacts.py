"""Damage artifacts in every way, run the gate on them, and write docs/measured/mutated-artifacts.md.

    python benchmarks/mutated_artifacts.py --count 2000

Small networks are converted to every format. Each mutation damages a copy of one artifact: bits, lengths and whole
files of the phone file, the manifest, the reference vectors. Where the file is damaged, half of the manifests state the
SHA-256 and the size of the damaged file, so the runtime gets to see it. Then `mobilevit verify` judges the copy on one
runtime, and a file that passes must answer further images, which the gate has not seen, as its original does. Results
are appended to `--out`, so an interrupted run resumes. Exit code 1 when a bar was missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from artifact_mutations import OF_FILE, OF_PROOF, name_of, seal
from damage_oracle import TIMEOUT, UNSEEN, is_another_function, unseen_cases, unseen_db
from shared import MEASURED, append_to_log, read_log, tell, write_page
from small_artifacts import small_artifacts
from warm_children import Warm

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.errors import MobileViTError
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.parity import verify
from mobilevit_sdk.parity.runs import run_cases

_HEAD = """# Mutated artifacts

Written by `{command}`.

**{count} mutations: {crashed} crashed the command, {hung} exceeded the timeout of {timeout:.0f} s by more than half,
and {wrong} of the {passing} that passed had a different function from their original.**

Small networks of every family, converted to every format, are damaged and run through the gate. *Sealed*: the manifest
states the SHA-256 and the size of the damaged file, so the runtime gets to see it. *Refused*: the command ends with a
one-line error before anything runs. *Passed* are mutations that change nothing of consequence: a bit of a name, of
padding, or the last bits of a weight. Each of these files also answered {unseen} images that the gate has not seen, and
was compared with its original there, at the threshold of its precision.

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
    parser.add_argument("--page", type=Path, default=MEASURED / "mutated-artifacts.md", help="the page to write")
    parser.add_argument("--format", action="append", help="only this one; may be given again")
    parser.add_argument("--only-page", action="store_true", help="of what was measured so far")
    options = parser.parse_args()
    log = options.out / f"seed-{options.seed}.jsonl"
    done = read_log(log, Outcome)
    left = sorted(set(range(options.count)) - {outcome.number for outcome in done})
    if left and not options.only_page:
        judges = Judges(small_artifacts(options.out / "originals", options.format or ()), options.seed)
        with patch("mobilevit_sdk.parity.runs.run_in_child", judges.run_in_child):
            for number in left:
                done.append(judges.outcome(number))
                append_to_log(done[-1], log)
                if len(done) % 100 == 0:
                    tell(f"{len(done)} of {options.count}, {judges.peak_bytes / 1e6:,.0f} MB at the most")
    done = [outcome for outcome in done if outcome.number < options.count]
    write_page(page(done, f"python benchmarks/mutated_artifacts.py --seed {options.seed}"), options.page)
    return 1 if any(outcome.wrong or outcome.status == "crashed" or _hung(outcome) for outcome in done) else 0


class Judges:
    """What judges an artifact and asks it about unseen images, with a server of children for each runtime."""

    def __init__(self, originals: Sequence[Artifact], seed: int) -> None:
        self._originals, self._seed = originals, seed
        self._servers: dict[str, Warm] = {}

    @property
    def peak_bytes(self) -> int:
        """The most that a process needed to load a file and answer all images."""
        return max((server.peak_bytes for server in self._servers.values()), default=0)

    def run_in_child(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """In the place of the SDK's own: a fresh process, whose imports are done."""
        ref = args[0]
        assert isinstance(ref, RuntimeRef)
        server = self._servers.setdefault(f"{ref.format} {ref.backend} {ref.runtime}", Warm())
        return server.call(function, *args, **options)

    def outcome(self, number: int) -> Outcome:
        """Of a mutation, which its number and the seed determine."""
        chance = random.Random(f"{self._seed}-{number}")
        original = chance.choice(self._originals)
        kind = chance.choice([*OF_FILE, *OF_FILE, *OF_PROOF])
        sealed = kind in OF_FILE and chance.random() < 0.5
        name = name_of(original)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            shutil.copytree(original.path.parent, folder)
            (OF_FILE | OF_PROOF)[kind](folder, chance, self._originals)
            if sealed:
                seal(folder)
            started = time.monotonic()
            status, reason = self._judge(folder, runtime_of(original))
            seconds = time.monotonic() - started
            outcome = Outcome(number, name, kind, sealed, status, reason, round(seconds, 2))
            if status != "passed":
                return outcome
            unseen = self._unseen_db(original, folder)
            wrong = is_another_function(unseen, original.manifest.precision)
            return msgspec.structs.replace(outcome, unseen_db=unseen, wrong=wrong)

    def _judge(self, folder: Path, runtime: str) -> tuple[str, str]:
        try:
            (verdict,) = verify([folder], runtimes=[runtime], timeout=TIMEOUT)
        except MobileViTError as error:
            return "refused", str(error)
        except Exception as error:
            return "crashed", f"{type(error).__name__}: {error}"
        return verdict.status, verdict.reason or ""

    def _unseen_db(self, original: Artifact, folder: Path) -> float:
        """The worst SQNR in dB, over images that the gate has not seen, of the answers against the original's."""
        reference, ref = original.reference(), original.on(runtime_of(original))
        cases = unseen_cases(reference)
        expected, found = (
            reference.split(self.run_in_child(run_cases, dataclasses.replace(ref, path=path), cases))
            for path in (original.path, folder / original.path.name)
        )
        return min(unseen_db(*each) for each in zip(expected, found, strict=True))


def runtime_of(artifact: Artifact) -> str:
    """The first that runs the artifact here."""
    return next(each.name for each in artifact.converter.runtimes if each.availability())


def _hung(outcome: Outcome) -> bool:
    return outcome.seconds > 1.5 * TIMEOUT


def page(outcomes: Sequence[Outcome], command: str) -> str:
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
    return text


if __name__ == "__main__":
    sys.exit(main())
