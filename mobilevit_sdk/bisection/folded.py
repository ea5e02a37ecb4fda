"""Which layer of the phone graph holds the weights of a layer of the reference model: rewrites fold some together."""

from __future__ import annotations

from torch import nn

from mobilevit_sdk.deployment.merge_projections import pays
from mobilevit_sdk.layers import ConvNormAct, HasNormReaders, HasProjectionPairs


def weight_holders(model: nn.Module) -> dict[str, str]:
    """For each norm, and each projection merged into the next, by its path: the path of the layer that absorbs it."""
    names = {layer: name for name, layer in model.named_modules()}
    into: dict[nn.Module, nn.Module] = {}
    for layer in model.modules():
        if isinstance(layer, ConvNormAct):
            into[layer.norm] = layer.conv
        if isinstance(layer, HasNormReaders):
            into |= {pair.norm: pair.reader for pair in layer.norm_readers()}
        if isinstance(layer, HasProjectionPairs):
            into |= {pair.writer: pair.reader for pair in layer.projection_pairs() if pays(pair.writer, pair.reader)}
    holders: dict[str, str] = {}
    for layer in into:
        holder = into[layer]
        while holder in into:
            holder = into[holder]
        holders[names[layer]] = names[holder]
    return holders


def folded_into(layer: str, holders: dict[str, str]) -> tuple[str, ...]:
    """The layers that `layer` absorbs from outside its own module."""
    own = layer.rpartition(".")[0]
    return tuple(name for name, holder in holders.items() if holder == layer and name.rpartition(".")[0] != own)
