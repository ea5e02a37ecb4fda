"""From readings to a verdict: which operator is at fault, or, where none is, which is the weakest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from torch.fx import Node

from mobilevit_sdk.bisection.comparison import Reading
from mobilevit_sdk.bisection.folded import folded_into
from mobilevit_sdk.bisection.graph import Step, TracedGraph
from mobilevit_sdk.bisection.tensor_alignment import MOVES, Places
from mobilevit_sdk.parity.metrics import CEILING_DB, to_db
from mobilevit_sdk.spec import Strict

# An operator of the artifact that is this much worse than that of a fresh conversion computes something else: the same
# kernel on other inputs stays within 4 dB.
DROP_DB = 6.0
# Of operators that differ, those count that come this near to the threshold of the scores: other versions of a
# toolchain round in another way, far above it.
NEAR_DB = 20.0


class Operator(Strict, frozen=True):
    """An operator of the phone graph, and how near the artifact's result is to PyTorch's: SQNR in dB, worst case.

    `created_db` leaves out what was wrong with its inputs already, `before_db` is the worst of those. `cost_db` is what
    the scores would have if this were the only error, to first order. The `fresh_` ones are the same of a fresh
    conversion of the checkpoint.
    """

    block: str  # of the reference model; "" is arithmetic of the model itself
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
    """A run of operators of one block. `sqnr_db` is that of its last result, `created_db` the worst made within it,
    `cost_db` what all that is made within it costs the scores.
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
    sqnr_db: float  # of the scores
    threshold_db: float
    cases: tuple[str, ...]  # that were looked into
    culprit: Operator | None
    others: int  # operators behind the culprit that differ on their own
    weakest: Operator  # the one that costs the scores most
    blocks: tuple[Block, ...]
    operators: tuple[Operator, ...]


def describe(graph: TracedGraph, readings: Sequence[Reading], places: Places) -> list[Operator]:
    """Every reading under the names of the operator that makes its value."""
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
    """The operator with weights among those that one value of an artifact is the result of, such as conv and relu."""
    pending = [step]
    while pending:
        found = pending.pop(0)
        given = found.node.all_input_nodes
        if any(node in graph.constants for node in given):
            return found
        pending += [by_node[node] for node in given if node in by_node and node not in places]
    return step


def differing(operators: Sequence[Operator], threshold_db: float) -> list[Operator]:
    """Operators that compute something else than those of the fresh conversion."""
    return [
        each for each in operators if each.created_db < min(each.fresh_created_db - DROP_DB, threshold_db + NEAR_DB)
    ]


def broken(operators: Sequence[Operator], threshold_db: float) -> list[Operator]:
    """Operators that alone create more error than the scores may have."""
    return [each for each in operators if each.created_db < threshold_db]


def weakest(operators: Sequence[Operator]) -> Operator:
    return min(operators, key=lambda each: each.cost_db)


def blocks(operators: Sequence[Operator], at_fault: Sequence[Operator]) -> tuple[Block, ...]:
    """The operators by runs of one block, in the order of execution."""
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
    """The first operator from which on nothing of a conversion is found again; None where its scores are found."""
    reaches: set[Node] = set()
    for step in reversed(graph.steps):
        if step.node in places or step.node in reaches:
            reaches.update(step.node.all_input_nodes)
    lost = (step for step in graph.steps if step.node not in places and step.node not in reaches)
    return next((step for step in lost if step.operator not in MOVES), None)
