"""Channels that share a scale, brought nearer to each other where that is exact.

W x  ==  (W diag(s)) (x / s) for every s > 0: with s_j = sqrt(max |x_j| / max |W_j|) the channels of what is read, and
the columns of the weights that read them, reach about as far (Xiao et al., "SmoothQuant", ICML 2023, equation 4, with
alpha = 0.5). Who divides by s costs nothing, or next to it: in attention the rows of v, because each channel of its
output is a weighted mean of one channel of v; before a classifier a product with one vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment import PhoneGraph
from mobilevit_sdk.deployment.explicit_attention import ExplicitAttention
from mobilevit_sdk.layers.hooks import forward_hooks


class SmoothedLinear(nn.Module):
    """A classifier that evens out the channels of what it reads. Shapes: [B, in_features] -> [B, out_features]."""

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
    """`reader` reads what may be divided by a vector: in `writer`, or where there is none in a product of its own."""

    path: str
    reader: nn.Linear
    writer: nn.Linear | None


@torch.no_grad()
def smooth(graph: PhoneGraph, images: Iterable[np.ndarray]) -> None:
    """Even out the inputs of attention's projections and of the classifier, in place; the answers stay the same.

    `images` are RGB float32 [1, 3, H, W] in [0, 1].
    """
    sites = list(_sites(graph.network))
    largest = _largest_inputs(graph, {site.path: site.reader for site in sites}, images)
    for site in sites:
        if site.path not in largest:
            continue
        scale = smoothing_scale(largest[site.path], site.reader.weight)
        site.reader.weight.mul_(scale)
        if site.writer is not None:
            site.writer.weight.div_(scale[:, None])
            if site.writer.bias is not None:
                site.writer.bias.div_(scale)
        else:
            parent, _, name = site.path.rpartition(".")
            setattr(graph.network.get_submodule(parent), name, SmoothedLinear(site.reader, scale))


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
            yield _Site(f"{path}.proj", module.proj, module.v)
    last = [(path, module) for path, module in network.named_modules() if type(module) is nn.Linear]
    if last and "." not in last[-1][0]:  # the classifier: a linear layer of the network itself
        yield _Site(*last[-1], writer=None)


def _largest_inputs(
    graph: PhoneGraph, readers: dict[str, nn.Linear], images: Iterable[np.ndarray]
) -> dict[str, Tensor]:
    """The largest absolute value of every channel that each of `readers` reads, [C]."""
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
