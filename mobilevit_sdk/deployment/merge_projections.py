"""Two projections in succession, with nothing between them but pixels that move or are averaged, as one.

W2 (W1 x + b1) + b2  ==  (W2 W1) x + (W2 b1 + b2), and a mean of pixels may be taken before it as well as between. It
pays where the one matrix has no more elements than the two. The products are taken in float64 and rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layer
from mobilevit_sdk.layers import HasProjectionPairs
from mobilevit_sdk.layers.traits import Projection


def merge_projections(network: nn.Module) -> None:
    """Merge the projections that blocks declare to follow each other, where it pays, in place."""
    for block in list(network.modules()):
        if isinstance(block, HasProjectionPairs):
            for pair in list(block.projection_pairs()):
                if pays(pair.writer, pair.reader):
                    replace_layer(network, pair.reader, merged(pair.writer, pair.reader))
                    replace_layer(network, pair.writer, nn.Identity())


def pays(writer: Projection, reader: Projection) -> bool:
    """Whether the product of the two matrices has no more elements than both together."""
    outputs, middle = reader.weight.shape[:2]
    inputs = writer.weight.shape[1]
    return outputs * inputs <= middle * (outputs + inputs)


@torch.no_grad()
def merged(writer: Projection, reader: Projection) -> Projection:
    """A projection of the reader's kind that computes what both do, one after the other."""
    first, second = writer.weight.flatten(1).double(), reader.weight.flatten(1).double()  # [out, C, 1, 1] -> [out, C]
    outputs, inputs = len(second), first.shape[1]
    both: Projection = (
        nn.Linear(inputs, outputs) if isinstance(reader, nn.Linear) else nn.Conv2d(inputs, outputs, 1)
    ).to(reader.weight.dtype)
    assert both.bias is not None
    both.weight.copy_((second @ first).view_as(both.weight))
    both.bias.copy_(second @ _bias(writer) + _bias(reader))
    return both


def _bias(layer: Projection) -> Tensor:
    return layer.weight.new_zeros(len(layer.weight), dtype=torch.float64) if layer.bias is None else layer.bias.double()
