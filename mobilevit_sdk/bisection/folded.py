"""Which layer of the phone graph holds the weights of a layer of the reference model: rewrites fold some together."""

from __future__ import annotations

from torch import nn

from mobilevit_sdk.deployment.merge_projections import pays
from mobilevit_sdk.layers import ConvNormAct, HasNormReaders, HasProjectionPairs


def weight_holders(model: nn.Module) -> dict[str, str]:
    """For norms, and projections that another follows, by their paths the path of the layer that takes them in."""
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
    """What `layer` takes in from elsewhere than the module that it is a part of."""
    own = layer.rpartition(".")[0]
    return tuple(name for name, holder in holders.items() if holder == layer and name.rpartition(".")[0] != own)
