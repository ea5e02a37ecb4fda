"""Damage checkpoints in every container and load them, and write docs/measured/mutated-checkpoints.md.

    python benchmarks/mutated_checkpoints.py --count 7000

No container has a checksum that its writers rely on, but .npz: of a damaged weight, nothing else may change. A file
that loads must hold, in every tensor, what stands at its place in the damaged file, and the spec that its header says.
A loading may take `SLOW_SECONDS` of computing, and thrice the memory of the file and `MEMORY_BYTES`. Results are
appended to `--out`, so an interrupted run resumes. Exit code 1 when a bar was missed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from checkpoint_containers import Container, containers
from process_memory import forget_peak, peak
from shared import MEASURED, append_to_log, read_log, tell, write_page
from warm_children import Warm

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import CheckpointError, MobileViTError, ToolchainError

SLOW_SECONDS = 5.0
MEMORY_BYTES = 64 << 20
_BATCH = 50
_KINDS = ("bits", "bits of the head", "cut", "a block", "moved")

_HEAD = """# Mutated checkpoints

Written by `{command}`.

**{count} mutations: {crashed} crashed, {slow} took more than 5 s or 64 MB beside three times the file, and {wrong} of
the {read} that were read held anything but what stands in the file.**

A small network in each container is damaged and loaded. *Refused*: one line says what is wrong. *Read*: the damage hit
weights, or text beside them that is as valid as before; every tensor is what stands at its place, to the bit.

"""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a mutation: "refused", "read", "wrong" or "crashed"."""

    number: int
    container: str
    kind: str
    status: str
    reason: str
    seconds: float = 0.0
    grown: float = 0.0  # bytes of memory over those of the file


def main() -> int:
    """Mutate what is missing, then write the page; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=7000, help="of mutations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/mutated-checkpoints.jsonl"), help="results, one a line")
    parser.add_argument("--page", type=Path, default=MEASURED / "mutated-checkpoints.md", help="the page to write")
    parser.add_argument("--only-page", action="store_true", help="of what was measured so far")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = read_log(options.out, Outcome)
    left = sorted(set(range(options.count)) - {outcome.number for outcome in done})
    with Warm() as child:
        while left and not options.only_page:
            found = _batch(child, left[:_BATCH], options.seed)
            for outcome in found:
                append_to_log(outcome, options.out)
            done += found
            left = left[len(found) :]
            tell(f"{len(done)} of {options.count}")
    done = [outcome for outcome in done if outcome.number < options.count]
    write_page(page(done, f"python benchmarks/mutated_checkpoints.py --seed {options.seed}"), options.page)
    return 1 if any(outcome.status in ("wrong", "crashed") or _is_slow(outcome) for outcome in done) else 0


def _batch(child: Warm, numbers: Sequence[int], seed: int) -> list[Outcome]:
    """Of these in one child, or of the first alone where one of them takes it down."""
    try:
        return child.call(try_all, numbers, seed, timeout=300.0)
    except ToolchainError:
        try:
            return child.call(try_all, numbers[:1], seed, timeout=60.0)
        except ToolchainError as error:
            container, kind, _ = mutation(numbers[0], seed)
            return [Outcome(numbers[0], container.name, kind, "crashed", str(error), 60.0)]


def try_all(numbers: Sequence[int], seed: int) -> list[Outcome]:
    """In a child process: load each mutation."""
    import torch

    torch.set_num_threads(1)
    return [_try(number, seed) for number in numbers]


@cache
def _containers() -> Sequence[Container]:
    return containers()


def mutation(number: int, seed: int) -> tuple[Container, str, dict[str, bytes]]:
    """What is damaged, how, and the files then."""
    chance = random.Random(f"{seed}-{number}")
    container = chance.choice(_containers())
    name = chance.choice(sorted(container.files))
    content, kind = (
        bytearray(container.files[name]),
        chance.choice(("bits", "bits of the head", "cut", "a block", "moved")),
    )
    span = len(content) if kind != "bits of the head" else min(2000, len(content))
    if kind.startswith("bits"):
        for _ in range(chance.choice((1, 1, 2, 8, 64))):
            content[chance.randrange(span)] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[chance.randrange(span) :]
    elif kind == "a block":
        start, length = chance.randrange(span), chance.choice((1, 4, 64, 4096))
        length = min(length, span - start)
        content[start : start + length] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    else:  # bytes are missing or too many in the midst
        start = chance.randrange(span)
        content[start : start + chance.choice((0, 1, 8))] = chance.randbytes(chance.choice((0, 1, 8)))
    return container, kind, {**container.files, name: bytes(content)}


def _try(number: int, seed: int) -> Outcome:
    container, kind, files = mutation(number, seed)
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            (Path(scratch) / name).write_bytes(content)
        before, began = forget_peak(), time.process_time()
        status, reason, loaded = "read", "", None
        try:
            loaded = load_checkpoint(Path(scratch) / container.source)
        except CheckpointError as error:
            status, reason = "refused", str(error)
        except MobileViTError as error:
            status, reason = "crashed", f"another error of the SDK: {error}"
        except Exception as error:
            status, reason = "crashed", f"{type(error).__name__}: {error}"
        seconds, grown = time.process_time() - began, peak() - before
        if loaded is not None and (reason := _defect(container, files, loaded) or ""):
            status = "wrong"
    beyond = max(0.0, grown - 3.0 * sum(map(len, files.values())))
    return Outcome(number, container.name, kind, status, reason[:300], round(seconds, 3), beyond)


def _defect(container: Container, files: Mapping[str, bytes], loaded: Any) -> str | None:
    """In what a loaded network is not what the damaged files say."""
    if files == container.files:
        return None
    if container.has_spec:
        content = files[container.source]
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        if json.loads(msgspec.json.encode(loaded.spec)) != json.loads(header["__metadata__"]["mobilevit_sdk"]):
            return "the spec is another than that of the header"
    found = loaded.model.state_dict()
    for name, tensor in container.state.items():
        before, after = tensor.numpy().tobytes(), found[name].numpy().tobytes()
        if after != before and after not in _at_places(container.files, files, before):
            return f"{name} is not what stands in the file"
    return None


def _at_places(whole: Mapping[str, bytes], damaged: Mapping[str, bytes], held: bytes) -> list[bytes]:
    """What the damaged files have where the whole ones have `held`."""
    found = []
    for name, content in whole.items():
        at = content.find(held)
        while at >= 0:
            found.append(damaged[name][at : at + len(held)])
            at = content.find(held, at + 1)
    return found


def _is_slow(outcome: Outcome) -> bool:
    return outcome.seconds > SLOW_SECONDS or outcome.grown > MEMORY_BYTES


def page(outcomes: Sequence[Outcome], command: str) -> str:
    """A table by container and kind of damage, and what went wrong, if anything did."""
    statuses = ("refused", "read", "wrong", "crashed")
    counts = Counter((outcome.container, outcome.kind, outcome.status) for outcome in outcomes)
    of_status = Counter(outcome.status for outcome in outcomes)
    text = _HEAD.format(
        command=command,
        count=f"{len(outcomes):,}",
        crashed=of_status["crashed"],
        slow=sum(map(_is_slow, outcomes)),
        wrong=of_status["wrong"],
        read=f"{of_status['read'] + of_status['wrong']:,}",
    )
    text += f"| container | damage | {' | '.join(statuses)} |\n| --- | --- |{' ---: |' * len(statuses)}\n"
    for container, kind in sorted({(outcome.container, outcome.kind) for outcome in outcomes}):
        cells = (str(counts[container, kind, status]) for status in statuses)
        text += f"| {container} | {kind} | {' | '.join(cells)} |\n"
    text += f"\nThe slowest took {max(outcome.seconds for outcome in outcomes):.1f} s of computing.\n"
    for outcome in outcomes:
        if outcome.status in ("wrong", "crashed") or _is_slow(outcome):
            what = f"{outcome.number}: {outcome.container}, {outcome.kind}: {outcome.status}, {outcome.seconds} s"
            text += f"\n- {what}, {outcome.grown / 1e6:.0f} MB {outcome.reason}"
    return text


if __name__ == "__main__":
    import mutated_checkpoints  # under its own name, by which the child process finds what it is to run

    sys.exit(mutated_checkpoints.main())
