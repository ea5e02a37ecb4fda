"""Which operator of the phone graph computes each value of an artifact."""

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

# Their results are the values of their operands in another order: a tap that matches one matches the other.
MOVES = {"view", "reshape", "permute", "transpose", "flatten", "unsqueeze", "squeeze", "contiguous", "alias", "clone"}
MARGIN_DB = 1.0  # by which a later operator must be nearer to a tap to get it
MIN_VALUES = 4  # a tap with fewer cannot be identified by its values, unless it is an answer


@dataclass(frozen=True)
class Place:
    """A tap, by its number, and the permutation in which it holds an operator's result."""

    tap: int
    layout: AxisPermutation


Places = dict[Node, tuple[Place, ...]]  # in the order of execution


class Follower:
    """Evaluates the graph along an artifact: each operator reads the artifact's own values of its operands.

    What an operator computes from them is what the artifact should have computed, whatever went wrong before.
    """

    def __init__(self, graph: TracedGraph, image: np.ndarray) -> None:
        self._values: dict[Node, Any] = {**graph.constants, graph.image: unit_image(image)}
        self._left = dict(graph.uses)

    @torch.inference_mode()
    def expected(self, step: Step) -> Any:
        """What `step` computes from the values so far."""
        return evaluate(step.node, self._values)

    def value(self, node: Node) -> Any:
        """The result of an earlier operator; only the answers are kept to the end."""
        return self._values[node]

    def keep(self, step: Step, value: Any) -> None:
        """Take `value` as the result of `step`; operands that no other operator reads are dropped."""
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
    """Identify taps by their values in one case: each is the result that it is nearest to, if within `min_db`.

    With `known` places, the remaining taps are identified with the remaining operators, each after the taps of its own
    inputs. A graph and an unrelated conversion have no places in common.
    """
    known = known or {}
    taken = {place.tap for each in known.values() for place in each}
    follower = Follower(graph, image)
    nearest: dict[int, tuple[Node, AxisPermutation, float]] = {}
    latest: dict[Node, int] = {}  # tap that a result depends on
    by_size: dict[int, list[tuple[int, tuple[float, float]]]] = {}
    for number, value in enumerate(values):
        constant = value.size >= MIN_VALUES and float(np.ptp(value)) == 0
        if number not in taken and value.size and np.isfinite(value).all() and not constant:
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
            known_by_values = result.numel() >= MIN_VALUES or step.node in graph.answers
            for number, (tap_norm, tap_mean) in by_size.get(result.numel(), []) if known_by_values else ():
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
    """The norm, and the sum over the square root of the size: neither changes by more than the norm of a difference."""
    flat = values.ravel().astype(np.float64, copy=False)
    return float(np.sqrt(np.vdot(flat, flat))), float(flat.sum() / flat.size**0.5)


def as_result(layout: AxisPermutation, tap: np.ndarray, result: Tensor) -> Tensor:
    """A tap's values in the shape of `result`, float64."""
    return torch.from_numpy(layout.to_result(tap).astype(np.float64)).reshape(result.shape)
