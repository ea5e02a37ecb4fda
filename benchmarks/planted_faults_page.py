"""The records of benchmarks/planted_faults.py, and the page that is written from them alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
from shared import write_page

from mobilevit_sdk.parity.metrics import CEILING_DB

_HEAD = """# Planted faults: are they caught, and is the right block named?

Written by `{command}`.

**{faults} faults, {counting} of them with an effect: {caught} of those caught, the right block named for {right} of
those, and for {everything} of all.**

A fault is planted into a small network of each family after its reference vectors were taken and before it is
converted, so the file is wrong and everything next to it is right.

- *Wrong weight*: one weight is off by one to four times the root mean square of its tensor. *Swapped projections*: q
  and k are exchanged, or k and v where q is a single row. *Dropped bias*: the bias of a layer or norm is 0.
- *With an effect* are the faults that take PyTorch's own scores below the threshold of the precision (90 dB for fp32,
  40 dB for fp16). *Caught* are those of them that fail the gate of `mobilevit verify`.
- *Right block* are those of them for which `mobilevit bisect` names the block that holds the changed weight in the
  phone graph: the gain and the bias of a norm are folded into the layer that reads it, and of two projections in
  succession the first into the second. *All named* includes the faults below the threshold, which `verify` passes and
  `bisect` finds nevertheless.

"""


class Fault(msgspec.Struct, frozen=True):
    """What is planted, and where; `seed` draws which weight and by how much."""

    number: int
    family: str
    format: str
    kind: str
    module: str
    seed: int


class Outcome(msgspec.Struct, frozen=True):
    """What became of a fault. `effect_db` is the SQNR of the faulty network's scores in PyTorch, in the worst case."""

    fault: Fault
    block: str
    effect_db: float
    effect_counts: bool  # it misses the threshold of the precision
    caught: bool  # by the gate
    sqnr_db: float
    named_block: str | None
    named_layer: str | None
    status: str
    seconds: float

    @property
    def right(self) -> bool:
        return self.named_block == self.block


def write_table(outcomes: Sequence[Outcome], path: Path, command: str) -> None:
    """The page, which says that `command` wrote it."""
    counting = [each for each in outcomes if each.effect_counts]
    caught, right = sum(each.caught for each in counting), sum(each.right for each in counting)
    everything = sum(each.right for each in outcomes)
    head = _HEAD.format(
        command=command,
        faults=len(outcomes),
        counting=len(counting),
        caught=_share(caught, len(counting)),
        right=_share(right, len(counting)),
        everything=_share(everything, len(outcomes)),
    )
    lines = head.splitlines()
    for title, key in (
        ("family", lambda each: each.fault.family),
        ("format", lambda each: each.fault.format),
        ("kind", lambda each: each.fault.kind),
    ):
        lines += _table(title, key, outcomes)
    for title, wrong in (
        ("Not caught, or named wrongly:", [each for each in counting if not (each.caught and each.right)]),
        (
            "Below the threshold and not named:",
            [each for each in outcomes if not each.effect_counts and not each.right],
        ),
    ):
        if wrong:
            lines += [title, "", *map(_line, wrong), ""]
    write_page("\n".join(lines), path)


def _line(outcome: Outcome) -> str:
    fault = outcome.fault
    effect = "no effect at all" if outcome.effect_db >= CEILING_DB else f"an effect of {outcome.effect_db:.1f} dB"
    named = f"named `{outcome.named_layer}`" if outcome.named_layer else "nothing named"
    return (
        f"- {fault.kind} in `{fault.module}` of {fault.family}, {fault.format}: {effect}, "
        f"{'caught' if outcome.caught else 'not caught'}, {named}"
    )


def _table(title: str, key: Callable[[Outcome], str], outcomes: Iterable[Outcome]) -> list[str]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for each in outcomes:
        groups[key(each)].append(each)
    lines = [f"| {title} | faults | with an effect | caught | right block | all named |", "| --- |" + " ---: |" * 5]
    for name, group in groups.items():
        counting = [each for each in group if each.effect_counts]
        caught, right = sum(each.caught for each in counting), sum(each.right for each in counting)
        cells = (name, len(group), len(counting), caught, right, f"{sum(each.right for each in group)} of {len(group)}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, ""]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"
