"""Channels that share a scale are brought to similar ranges, where that is exact.

W x  ==  (W diag(s)) (x / s) for every s > 0: with s_j = sqrt(max |x_j| / max |W_j|), the channels of the input and the
columns of the weights have about the same range (Xiao et al., "SmoothQuant", ICML 2023, equation 4, with alpha = 0.5).
The division by s costs little or nothing: in attention it goes into the rows of v, because each channel of its output
is a weighted mean of one channel of v; before a classifier it is a product with one vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment import PhoneGraph
from mobilevit_sdk.deployment.explicit_attention import ExplicitAttention
from mobilevit_sdk.deployment.join_tasks import TaskHeads
from mobilevit_sdk.deployment.token_classifier import JoinedClassifier
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.layers.hooks import forward_hooks
from mobilevit_sdk.text import one_line

Smoothing = Mapping[str, tuple[float, ...]]  # path of a reader in the network -> s for each channel of its input


class SmoothedLinear(nn.Module):
    """A classifier that scales the channels of its input to similar ranges. [B, in_features] -> [B, out_features]."""

    reciprocal: Tensor

    def __init__(self, linear: nn.Linear, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("reciprocal", 1 / scale[None])  # [1, in_features]
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(x * self.reciprocal)
        return scores


@dataclass(frozen=True)
class _Site:
    """`reader` has an input that a vector may divide: in `writer` or, where that is None, in a product of its own.

    `constants`, [..., heads, M, width], are values beside those of the writer, and divided as they are.
    """

    path: str
    reader: nn.Linear
    writer: nn.Linear | None
    constants: Tensor | None = None


@torch.no_grad()
def smooth(graph: PhoneGraph, images: Iterable[np.ndarray]) -> Smoothing:
    """Smooth the inputs of attention's output projections and of classifiers, in place; the answers stay the same.

    `images` are RGB float32 [1, 3, H, W] in [0, 1]. Returns what `apply_smoothing` does the same with.
    """
    readers = {site.path: site.reader for site in _sites(graph.network)}
    largest = _largest_inputs(graph, readers, images)
    scales = {path: smoothing_scale(largest[path], readers[path].weight) for path in readers if path in largest}
    smoothing = {path: tuple(float(f"{each:.5g}") for each in scale.tolist()) for path, scale in scales.items()}
    apply_smoothing(graph, smoothing)
    return smoothing


@torch.no_grad()
def apply_smoothing(graph: PhoneGraph, smoothing: Smoothing) -> None:
    """Smooth the readers at these paths by these factors, in place.

    The factors may be those of an untrusted manifest. Raises ArtifactError for a path without a reader, and for factors
    that are not positive or not as many as its channels.
    """
    sites = {site.path: site for site in _sites(graph.network)}
    if unknown := [path for path, scale in smoothing.items() if not _fits(sites.get(path), scale)]:
        raise ArtifactError(
            f"the smoothing of channels at {one_line(unknown[0], 80)!r} does not fit this network: the quantization in "
            f"the manifest is damaged, or of another one; convert again"
        )
    for path, factors in smoothing.items():
        site = sites[path]
        scale = torch.tensor(factors, dtype=site.reader.weight.dtype)
        site.reader.weight.mul_(scale)
        if site.writer is not None:
            site.writer.weight.div_(scale[:, None])
            if site.writer.bias is not None:
                site.writer.bias.div_(scale)
            if site.constants is not None:
                site.constants.div_(scale.view(site.constants.shape[-3], 1, -1))
        else:
            parent, _, name = site.path.rpartition(".")
            setattr(graph.network.get_submodule(parent), name, SmoothedLinear(site.reader, scale))


def _fits(site: _Site | None, scale: Sequence[float]) -> bool:
    if site is None or len(scale) != site.reader.in_features:
        return False
    return all(0 < factor <= torch.finfo(site.reader.weight.dtype).max for factor in scale)


def smoothing_scale(largest: Tensor, weight: Tensor) -> Tensor:
    """sqrt(max |x_j| / max |W_j|), and 1 where a channel or its weights are zero.

    Shapes: [C], [out, C] -> [C].
    """
    columns = weight.abs().amax(0)
    used = (largest > 0) & (columns > 0)
    return torch.where(used, (largest / columns.clamp(min=1e-30)).sqrt(), torch.ones_like(columns))


def _sites(network: nn.Module) -> Iterator[_Site]:
    for path, module in network.named_modules():
        if isinstance(module, ExplicitAttention) and type(module.proj) is nn.Linear:
            constants = None if module.memory is None else module.memory.values
            yield _Site(f"{path}.proj", module.proj, module.v, constants)
        elif isinstance(module, JoinedClassifier) and type(module.linear) is nn.Linear:
            yield _Site(f"{path}.linear", module.linear, None)
        elif isinstance(module, TaskHeads):
            yield from (_Site(f"{path}.tasks.{i}", cast("nn.Linear", x), None) for i, x in enumerate(module.tasks))
    last = [(path, module) for path, module in network.named_modules() if type(module) is nn.Linear]
    if last and "." not in last[-1][0]:  # the classifier: a linear layer of the network itself
        yield _Site(*last[-1], writer=None)


def _largest_inputs(
    graph: PhoneGraph, readers: dict[str, nn.Linear], images: Iterable[np.ndarray]
) -> dict[str, Tensor]:
    """The largest absolute value of every input channel of each of `readers`, [C]."""
    largest: dict[str, Tensor] = {}

    def observer(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def observe(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found = inputs[0].flatten(0, -2).abs().amax(0)
            largest[path] = torch.maximum(largest.get(path, found), found)

        return observe

    with forward_hooks(before=[(reader, observer(path)) for path, reader in readers.items()]):
        for image in images:
            graph(torch.from_numpy(image).to(next(graph.parameters()).dtype))
    return largest
