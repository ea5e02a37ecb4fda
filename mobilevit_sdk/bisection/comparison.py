"""An artifact and a fresh conversion beside the reference, operator by operator."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.fx import Node

from mobilevit_sdk.bisection.costs import costs_db
from mobilevit_sdk.bisection.graph import Step, TracedGraph
from mobilevit_sdk.bisection.tensor_alignment import Follower, Places, as_result
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.formats.taps import Tap
from mobilevit_sdk.parity.metrics import CEILING_DB, sqnr_db


@dataclass(frozen=True)
class Reading:
    """How near one value is to PyTorch's, worst of the cases, as SQNR in dB.

    `sqnr_db` is against the reference. `created_db` is against what the operator, in float64, makes of the artifact's
    own inputs: the error that is made here, without what was inherited. `cost_db` is what the scores would have if that
    error were the only one, to first order. The `fresh_` ones are those of the fresh conversion. `step` is the operator
    of the reference, `tap` the artifact's.
    """

    step: Step
    tap: Tap
    sqnr_db: float
    created_db: float
    cost_db: float
    fresh_sqnr_db: float
    fresh_created_db: float


def align(fresh: Sequence[Tap], taps: Sequence[Tap]) -> dict[int, int]:
    """For taps of a fresh conversion those of the artifact that stand in the same place: the longest runs of the same
    operators with the same shapes.
    """
    ours, theirs = ([(tap.operator, tap.shape) for tap in each] for each in (fresh, taps))
    matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
    return {block.a + i: block.b + i for block in matcher.get_matching_blocks() for i in range(block.size)}


def compare_values(
    graph: TracedGraph,
    cases: Sequence[Case],
    places: Places,
    taps: Sequence[Tap],
    values: Sequence[Sequence[np.ndarray]],
    fresh_values: Sequence[Sequence[np.ndarray]],
    aligned: Mapping[int, int],
) -> list[Reading]:
    """A reading for every placed tap that both files have, in the order of the reference.

    `values` and `fresh_values` are [case][tap]; `places` are those of the fresh conversion's taps, and `aligned` says
    which taps of the artifact they are.
    """
    worst: dict[tuple[int, int], list[float]] = {}
    same = {number: number for number in range(len(fresh_values[0]))}
    for case, own_values, fresh in zip(cases, values, fresh_values, strict=True):
        reference = Follower(graph, case.image)
        own, other = _Party(graph, case, own_values, aligned), _Party(graph, case, fresh, same)
        found: dict[tuple[int, int], list[float]] = {}
        for position, step in enumerate(graph.steps):
            result = reference.expected(step)
            reference.keep(step, result)
            here, there = own.follow(step, places, result), other.follow(step, places, result)
            found |= {(position, number): [*here[number], *there[number]] for number in here.keys() & there.keys()}
        costs = costs_db(graph, case, own.errors)
        for (position, number), numbers in found.items():
            cost = costs.get(graph.steps[position].node, CEILING_DB) if numbers[1] < CEILING_DB else CEILING_DB
            row = [*numbers[:2], cost, *numbers[2:]]
            before = worst.setdefault((position, number), row)
            worst[position, number] = [min(pair) for pair in zip(before, row, strict=True)]
    return [
        Reading(graph.steps[position], taps[aligned[number]], *worst[position, number])
        for position, number in sorted(worst)
    ]


class _Party:
    """One file's values in one case, followed through the graph; `errors` are those that its operators make."""

    def __init__(
        self, graph: TracedGraph, case: Case, values: Sequence[np.ndarray], numbers: Mapping[int, int]
    ) -> None:
        self.errors: dict[Node, Tensor] = {}
        self._follower = Follower(graph, case.image)
        self._values = values
        self._numbers = numbers  # of the file's taps, by those of the fresh conversion

    def follow(self, step: Step, places: Places, reference: Tensor) -> dict[int, tuple[float, float]]:
        """Take the file's own values of a step's result. For each tap SQNR against the reference, and of what is made
        here. Of several taps the first goes on; the others are copies of it.
        """
        basis = self._follower.expected(step)
        found: dict[int, tuple[float, float]] = {}
        kept = basis
        for place in places.get(step.node, ()):
            if place.tap in self._numbers:
                own = as_result(place.layout, self._values[self._numbers[place.tap]], reference)
                found[place.tap] = sqnr_db(reference.numpy(), own.numpy()), sqnr_db(basis.numpy(), own.numpy())
                if len(found) == 1:
                    self.errors[step.node] = (own - basis).float()
                    basis = kept = own
        self._follower.keep(step, kept)
        return found
