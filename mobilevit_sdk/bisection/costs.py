"""How much an error within the network changes the scores, or another output.

To first order an error e of a value x moves the scores by J e, with J the Jacobian of the scores with respect to x. For
random signs v, the mean of (v . J e)^2 is |J e|^2 (Hutchinson, 1990), and v . J is what one backward pass gives, for
every x at once. With v minus its mean, only what differs between the classes counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from mobilevit_sdk.bisection.graph import TracedGraph, evaluate, is_tensor, unit_image
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.parity.metrics import to_db

PROJECTIONS = 16  # the estimate is within about 2 dB


def costs_db(graph: TracedGraph, case: Case, errors: Mapping[Node, Tensor]) -> dict[Node, float]:
    """For each value with an error, the SQNR in dB that the scores would have with this error alone."""
    values = {node: constant.float() if is_tensor(constant) else constant for node, constant in graph.constants.items()}
    values[graph.image] = unit_image(case.image).float().requires_grad_()
    for step in graph.steps:
        values[step.node] = evaluate(step.node, values)
    scores = values[graph.answers[graph.followed]]
    decides = _deciding if graph.outputs[graph.followed].kind == "scores" else _everything
    nodes = [node for node in errors if values[node].requires_grad]
    generator = torch.Generator().manual_seed(0)
    noise = np.zeros(len(nodes))
    for _ in range(PROJECTIONS):
        signs = decides(torch.randint(0, 2, scores.shape, generator=generator) * 2.0 - 1.0)
        slopes = torch.autograd.grad(
            scores, [values[node] for node in nodes], signs, retain_graph=True, allow_unused=True
        )
        for i, (node, slope) in enumerate(zip(nodes, slopes, strict=True)):
            if slope is not None:
                noise[i] += float((slope.double() * errors[node].double()).sum()) ** 2 / PROJECTIONS
    signal = float(decides(scores.detach().double()).square().sum())
    return {node: to_db(signal, energy) for node, energy in zip(nodes, noise.tolist(), strict=True)}


def _deciding(scores: Tensor) -> Tensor:
    """What decides between the classes, as the gate reads it: without what they have in common; [1, classes]."""
    return scores if scores.shape[-1] == 1 else scores - scores.mean(-1, keepdim=True)


def _everything(features: Tensor) -> Tensor:
    return features
