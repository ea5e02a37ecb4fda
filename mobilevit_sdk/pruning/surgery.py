"""The pruned network: an ordinary model of its family with its own config, and the weights that are left.

It computes what the original does with every removed unit held at zero: a matrix without a column gives what it gives
with zero in that column's input. Two things differ. A LayerNorm or GroupNorm takes its statistics over the channels
that are left. And attention would scale by 1 / sqrt(key_dim) with the smaller key_dim: the queries are multiplied by
sqrt(kept / all), which restores the scale.
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from mobilevit_sdk.channel_groups import ConfigPath
from mobilevit_sdk.models.meta_model import build_on_meta
from mobilevit_sdk.pruning.structure import Pruning
from mobilevit_sdk.spec import ModelSpec


@torch.no_grad()
def cut(model: nn.Module, spec: ModelSpec, pruning: Pruning) -> tuple[nn.Module, ModelSpec]:
    """The pruned network, with the mode and dtype of `model`, and its spec. `model` stays as it is."""
    pruned_spec = _pruned_spec(model, spec, pruning)
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    _rescale(weights, pruning)
    for (name, axis), mask in pruning.kept_masks().items():
        if name in weights:  # products of activations have no weights
            kept = torch.from_numpy(mask).to(weights[name].device)
            weights[name] = weights[name].index_select(axis, kept.nonzero()[:, 0])
    pruned = build_on_meta(pruned_spec)
    pruned.load_state_dict({name: weights[name] for name in pruned.state_dict()}, assign=True)
    return pruned.train(model.training), pruned_spec


def _rescale(weights: dict[str, Tensor], pruning: Pruning) -> None:
    structure = pruning.structure
    for index in pruning.units:
        group = structure.groups[index]
        for place in group.rescaled:
            rows = slice(place.start, place.start + group.size * place.rows)
            weights[structure.tensor(place)][rows] *= (pruning.kept(index) / group.size) ** 0.5


def _pruned_spec(model: nn.Module, spec: ModelSpec, pruning: Pruning) -> ModelSpec:
    known: Any = model.config
    explicit = msgspec.convert(spec.config, type(known)).explicit()
    config: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(explicit)
    )  # lists in place of tuples, to be written to
    for index, parts in pruning.units.items():
        if pruning.lies_in_removed_block(index):
            continue
        group = pruning.structure.groups[index]
        value: Any = pruning.kept(index) * group.scale
        if group.names is not None:
            value = [name for unit, name in enumerate(group.names) if unit not in parts[0]]
        for path in group.paths:
            _write(config, path, value)
    for index in pruning.blocks:
        block = pruning.structure.blocks[index]
        _write(config, block.path, block.placeholder)
    return msgspec.structs.replace(spec, config=config)


def _write(config: Any, path: ConfigPath, value: Any) -> None:
    for step in path[:-1]:
        config = config[step]
    config[path[-1]] = value
