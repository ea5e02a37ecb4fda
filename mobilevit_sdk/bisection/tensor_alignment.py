"""Which operator of the phone graph each value of an artifact is the result of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from mobilevit_sdk.bisection.axis_permutation import AxisPermutation, best_permutation
from mobilevit_sdk.bisection.graph import Step, TracedGraph, evaluate, is_tensor, unit_image

# Their results are their operands' values in another order: a tap that holds one holds the other.
MOVES = {"view", "reshape", "permute", "transpose", "flatten", "unsqueeze", "squeeze", "contiguous", "alias", "clone"}
MARGIN_DB = 1.0  # by which a later operator must be nearer to a tap to get it
MIN_VALUES = 4  # values of a tap that is told from others by its values


@dataclass(frozen=True)
class Place:
    """A tap, by its number, and the layout in which it holds an operator's result."""

    tap: int
    layout: AxisPermutation


Places = dict[Node, tuple[Place, ...]]  # in the order of execution


class Follower:
    """Evaluates the graph as an artifact does: from each operator on, with the artifact's own value of its result.

    What an operator makes of the artifact's values is what the artifact should have made of them, whatever went wrong
    before.
    """

    def __init__(self, graph: TracedGraph, image: np.ndarray) -> None:
        self._values: dict[Node, Any] = {**graph.constants, graph.image: unit_image(image)}
        self._left = dict(graph.uses)

    @torch.inference_mode()
    def expected(self, step: Step) -> Any:
        """What `step` makes of the values so far."""
        return evaluate(step.node, self._values)

    def value(self, node: Node) -> Any:
        """The result of an operator that has gone by; only the scores stay for good."""
        return self._values[node]

    def keep(self, step: Step, value: Any) -> None:
        """Go on with `value` as the result of `step`; operands that nobody else reads are forgotten."""
        self._values[step.node] = value
        for given in step.node.all_input_nodes:
            self._left[given] -= 1
            if not self._left[given]:
                del self._values[given]


def find_places(
    graph: TracedGraph,
    image: np.ndarray,
    values: Sequence[np.ndarray],
    min_db: float,
    known: Places | None = None,
) -> Places:
    """Find taps by their values in one case: each is the result that it is nearest to, if within `min_db`.

    With places that are `known` already, taps that they leave are found for the operators that they leave, each behind
    the taps of its own inputs. A graph and a conversion that have nothing to do with each other have no places.
    """
    known = known or {}
    taken = {place.tap for each in known.values() for place in each}
    follower = Follower(graph, image)
    nearest: dict[int, tuple[Node, AxisPermutation, float]] = {}
    latest: dict[Node, int] = {}  # tap that a result depends on
    by_size: dict[int, list[tuple[int, tuple[float, float]]]] = {}
    for number, value in enumerate(values):
        if number not in taken and value.size >= MIN_VALUES and np.isfinite(value).all() and float(np.ptp(value)) > 0:
            by_size.setdefault(value.size, []).append((number, _norm_and_mean(value)))
    for step in graph.steps:
        result = follower.expected(step)
        kept = result
        after = max((latest.get(node, -1) for node in step.node.all_input_nodes), default=-1)
        latest[step.node] = after
        if step.node in known:
            first = known[step.node][0]
            kept = as_result(first.layout, values[first.tap], result)
            latest[step.node] = max(after, first.tap)
        elif is_tensor(result) and not (known and step.operator in MOVES):
            here = result.numpy()
            norm, mean = _norm_and_mean(here)
            slack = norm * 10 ** (-min_db / 20)  # no tap within `min_db` differs by more, in any layout
            best_db = min_db
            for number, (tap_norm, tap_mean) in by_size.get(result.numel(), []):
                placed = nearest.get(number)
                if max(abs(tap_norm - norm), abs(tap_mean - mean)) > slack or (placed and step.operator in MOVES):
                    continue
                found = best_permutation(here, values[number], min_db) if number > after or not known else None
                if found is None or (placed and placed[2] >= found[1] - MARGIN_DB):
                    continue
                nearest[number] = (step.node, *found)
                if found[1] > best_db:
                    best_db, kept = found[1], as_result(found[0], values[number], result)
                    latest[step.node] = max(after, number)
        follower.keep(step, kept)
    places = {node: list(each) for node, each in known.items()}
    for number in sorted(nearest):
        node, layout, _ = nearest[number]
        places.setdefault(node, []).append(Place(number, layout))
    return {node: tuple(found) for node, found in places.items()}


def _norm_and_mean(values: np.ndarray) -> tuple[float, float]:
    """The norm, and the sum over the root of the number: neither changes by more than the norm of a difference."""
    flat = values.ravel().astype(np.float64, copy=False)
    return float(np.sqrt(np.vdot(flat, flat))), float(flat.sum() / flat.size**0.5)


def as_result(layout: AxisPermutation, tap: np.ndarray, result: Tensor) -> Tensor:
    """A tap's values as a result like `result`, float64."""
    return torch.from_numpy(layout.to_result(tap).astype(np.float64)).reshape(result.shape)
