"""From readings to a verdict: which operator is at fault, or, if none is, which is the weakest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from msgspec import UNSET, UnsetType
from torch.fx import Node

from mobilevit_sdk.bisection.comparison import Reading
from mobilevit_sdk.bisection.folded import folded_into
from mobilevit_sdk.bisection.graph import Step, TracedGraph
from mobilevit_sdk.bisection.tensor_alignment import MOVES, Places
from mobilevit_sdk.parity.metrics import CEILING_DB, to_db
from mobilevit_sdk.spec import Strict

# An operator that is this much worse than in a fresh conversion computes something else: the same kernel on other
# inputs stays within 4 dB.
DROP_DB = 6.0
# Operators that differ count only this near to the threshold of the scores: other versions of a toolchain round in
# another way, far above it.
NEAR_DB = 20.0


class Operator(Strict, frozen=True):
    """An operator of the phone graph, and how near the artifact's result is to PyTorch's: SQNR in dB, worst case.

    `created_db` leaves out the errors of its inputs, and `before_db` is the worst of those. `cost_db` is the SQNR that
    the scores would have if this were the only error, to first order. The `fresh_` numbers are those of a fresh
    conversion of the checkpoint.
    """

    block: str  # of the reference model; "" is the model's own arithmetic
    module: str  # innermost module of the reference model
    layer: str  # the module of the phone graph, where attention.qkv is q, k and v
    also: tuple[str, ...]  # layers of the reference model elsewhere whose weights are folded into this one
    operator: str  # ATen's name
    artifact_operator: str  # the format's
    tensor: str  # the artifact's name of the result
    before_db: float
    sqnr_db: float
    created_db: float
    cost_db: float
    fresh_sqnr_db: float
    fresh_created_db: float

    @property
    def place(self) -> str:
        return self.layer or "the network itself"


class Block(Strict, frozen=True):
    """A run of operators of one block. `sqnr_db` is that of its last result, `created_db` the worst of its operators,
    and `cost_db` the SQNR that the scores would have with all errors created within it, and no others.
    """

    block: str
    operators: int
    sqnr_db: float
    created_db: float
    cost_db: float
    fresh_sqnr_db: float
    fresh_created_db: float
    diverged: bool


class Bisection(Strict, frozen=True):
    """Where an artifact diverges from the reference.

    `status`: "diverged" (the scores miss the threshold, and `culprit` is why), "differs" (they meet it, but an operator
    computes something else than in a fresh conversion) or "agrees". `cause` of a divergence: "file" (a fresh conversion
    is good there) or "conversion" (it is as bad).
    """

    artifact: str
    format: str
    precision: str
    runtime: str
    status: Literal["diverged", "differs", "agrees"]
    cause: Literal["file", "conversion"] | None
    sqnr_db: float  # of the scores, or of that output
    threshold_db: float
    cases: tuple[str, ...]  # that were compared
    culprit: Operator | None
    others: int  # operators after the culprit that differ on their own
    weakest: Operator  # the one that changes the scores most
    blocks: tuple[Block, ...]
    operators: tuple[Operator, ...]
    output: str | UnsetType = UNSET  # that is followed, where there are several: the worst
    image_size: tuple[int, int] | UnsetType = UNSET  # height and width in pixels of the entry, where there are several


def describe(graph: TracedGraph, readings: Sequence[Reading], places: Places) -> list[Operator]:
    """Every reading, named after the operator that computes its value."""
    known: dict[Node, float] = {}
    for reading in readings:
        known.setdefault(reading.step.node, reading.sqnr_db)
    before: dict[Node, float] = {}
    by_node = {step.node: step for step in graph.steps}
    for step in graph.steps:
        given = (known.get(node, before.get(node, CEILING_DB)) for node in step.node.all_input_nodes)
        before[step.node] = min(given, default=CEILING_DB)
    found = []
    for reading in readings:
        main = _main_step(reading.step, by_node, graph, places)
        found.append(
            Operator(
                block=main.block,
                module=main.module,
                layer=main.path,
                also=folded_into(main.path, graph.holders),
                operator=main.operator,
                artifact_operator=reading.tap.operator,
                tensor=reading.tap.name,
                before_db=before[reading.step.node],
                sqnr_db=reading.sqnr_db,
                created_db=reading.created_db,
                cost_db=reading.cost_db,
                fresh_sqnr_db=reading.fresh_sqnr_db,
                fresh_created_db=reading.fresh_created_db,
            )
        )
    return found


def _main_step(step: Step, by_node: dict[Node, Step], graph: TracedGraph, places: Places) -> Step:
    """Of the operators that one value of an artifact covers, such as conv and relu, the one with weights."""
    pending = [step]
    while pending:
        found = pending.pop(0)
        given = found.node.all_input_nodes
        if any(node in graph.constants for node in given):
            return found
        pending += [by_node[node] for node in given if node in by_node and node not in places]
    return step


def differing(operators: Sequence[Operator], threshold_db: float) -> list[Operator]:
    """Operators that compute something else than in the fresh conversion."""
    return [
        each for each in operators if each.created_db < min(each.fresh_created_db - DROP_DB, threshold_db + NEAR_DB)
    ]


def broken(operators: Sequence[Operator], threshold_db: float) -> list[Operator]:
    """Operators that alone create more error than the scores may have."""
    return [each for each in operators if each.created_db < threshold_db]


def weakest(operators: Sequence[Operator]) -> Operator:
    return min(operators, key=lambda each: each.cost_db)


def blocks(operators: Sequence[Operator], at_fault: Sequence[Operator]) -> tuple[Block, ...]:
    """The operators grouped into runs of one block, in the order of execution."""
    found = []
    for name, run in groupby(operators, key=lambda each: each.block):
        inside = list(run)
        found.append(
            Block(
                block=name,
                operators=len(inside),
                sqnr_db=inside[-1].sqnr_db,
                created_db=min(each.created_db for each in inside),
                cost_db=sum_db([each.cost_db for each in inside]),
                fresh_sqnr_db=inside[-1].fresh_sqnr_db,
                fresh_created_db=min(each.fresh_created_db for each in inside),
                diverged=any(each in at_fault for each in inside),
            )
        )
    return tuple(found)


def sum_db(contributions: Sequence[float]) -> float:
    """SQNR in dB of independent errors together, each given as its own SQNR."""
    return to_db(1.0, sum(10 ** (-each / 10) for each in contributions if each < CEILING_DB))


def first_unplaced(graph: TracedGraph, places: Places) -> Step | None:
    """The first operator after which no value of a conversion is found again; None where its scores are found."""
    reaches: set[Node] = set()
    for step in reversed(graph.steps):
        if step.node in places or step.node in reaches:
            reaches.update(step.node.all_input_nodes)
    lost = (step for step in graph.steps if step.node not in places and step.node not in reaches)
    return next((step for step in lost if step.operator not in MOVES), None)
