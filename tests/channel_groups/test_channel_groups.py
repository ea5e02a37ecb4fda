"""Channel groups: complete and disjoint for every family, and open to networks of other packages."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest
import torch
from prunable import CONFIGS, small_model
from tiny_networks import PATCHES
from torch import nn

from mobilevit_sdk.channel_groups import (
    ChannelGroup,
    RemovableBlock,
    block_groups,
    channel_groups,
    has_channel_groups,
    products,
    reads,
    removable_blocks,
    stream_slices,
    writes,
)
from mobilevit_sdk.deployment.cross_layer_equalization import equalize_channels
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import (
    ConvNormAct,
    CrossAttention,
    DecoderLayer,
    EncoderLayer,
    PatchTokens,
    PositionBias,
    RaggedTokens,
    RelativePositions,
    SeparableAttention,
)
from mobilevit_sdk.layers.conv import is_depthwise
from mobilevit_sdk.models.detr import DETR
from mobilevit_sdk.models.mobilevit import MobileViT
from mobilevit_sdk.pruning.structure import Pruning, Structure

FAMILIES = sorted(CONFIGS)
CHANNELS = {
    "channels",
    "dim",
    "dims",
    "stem_channels",
    "final_channels",
    "representation_dim",
}  # outside of `widths`, what pruning changes
FIXED = {"detr": {"dim"}}  # the positions have it, too


def numbers(value, path=()):
    """The paths of all numbers of a config, as plain data; a list of the names of heads counts as one."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from numbers(each, (*path, key))
    elif isinstance(value, list) and path[-1] != "heads":
        for key, each in enumerate(value):
            yield from numbers(each, (*path, key))
    elif value and not isinstance(value, bool):  # zero is what is not there
        yield path


@pytest.mark.parametrize("family", FAMILIES)
def test_every_width_of_the_config_has_exactly_one_group(family):
    model, _ = small_model(family)
    config = msgspec.json.decode(msgspec.json.encode(model.config.explicit()))
    widths = {
        path
        for path in numbers(config)
        if path[0] == "widths" or (CHANNELS - FIXED.get(family, set())) & set(path)  # "dim" without attention is zero
    }
    of_groups = Counter(path for group in channel_groups(model) for path in group.paths)
    assert set(of_groups) == widths
    assert max(of_groups.values()) == 1


def counts_of(structure, groups):
    """By tensor and axis, in how many units of the groups each index is."""
    counts = {}
    for group in groups:
        for part in group.parts:
            for place in part:
                name = structure.tensor(place)
                found = counts.setdefault((name, place.axis), np.zeros(structure.shapes[name][place.axis], int))
                rows = structure.matrix(place, group.size)
                np.add.at(found, rows[rows >= 0], 1)
    return counts


def of_no_channel(model):
    """Indices of axes that belong to no group: pixels and classes, kernels of one channel, offsets, the one query."""
    convolutions = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    expected = {(f"{convolutions[0][0]}.weight", 1): [0, 1, 2]} if convolutions else {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.startswith("head"):
            classes = list(range(module.out_features))
            expected |= {(f"{name}.{leaf}", 0): classes for leaf, _ in module.named_parameters()}
        elif isinstance(module, nn.Conv2d) and is_depthwise(module):
            expected[f"{name}.weight", 1] = [0]
        elif isinstance(module, PatchTokens):  # tokens and places
            for table in ("prefix", "positions"):
                shape = getattr(module, table).shape
                expected |= {(f"{name}.{table}", axis): list(range(shape[axis])) for axis in (0, 1)}
        elif isinstance(module, RaggedTokens):  # pixels, tokens and places
            tables = {f"{name}.{leaf}": each.shape for leaf, each in module.named_parameters() if each.ndim > 2}
            expected |= {(each, axis): list(range(shape[axis])) for each, shape in tables.items() for axis in (0, 1)}
            expected[f"{name}.proj.weight", 1] = list(range(module.proj.in_features))
        elif isinstance(module, (PositionBias, RelativePositions)):
            expected[f"{name}.table", 1] = list(range(module.table.shape[1]))
        elif isinstance(module, SeparableAttention):
            expected |= {(f"{name}.qkv.weight", 0): [0], (f"{name}.qkv.bias", 0): [0]}
    return expected | of_tokens_that_stay(model)


def of_tokens_that_stay(model):
    """The channels of DETR's tokens, and what its heads answer."""
    if not isinstance(model, DETR):
        return {}
    outputs = ["projection", "box_head.4", "class_head"]
    inputs = ["class_head", "box_head.0"]
    for name, module in model.named_modules():
        if isinstance(module, (EncoderLayer, DecoderLayer)):
            outputs += [f"{name}.mlp.fc2"]
            inputs += [f"{name}.mlp.fc1"]
        elif isinstance(module, CrossAttention):
            outputs += [f"{name}.proj"]
            inputs += [f"{name}.qkv"]
        elif isinstance(module, nn.LayerNorm):
            outputs += [name]
    axes = [(f"{name}.{leaf}", 0) for name in outputs for leaf in ("weight", "bias")]
    axes += [(f"{name}.weight", 1) for name in inputs]
    axes += [("transformer.queries.weight", axis) for axis in (0, 1)]
    tensors = model.state_dict()
    return {(name, axis): list(range(tensors[name].shape[axis])) for name, axis in axes}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_index_of_every_weight_belongs_to_exactly_one_unit_beside_a_head(family):
    model, _ = small_model(family)
    structure = Structure(model)
    single = counts_of(structure, [group for group in structure.groups if group.kind != "heads"])
    assert all(counts.max() == 1 for counts in single.values())
    counts = counts_of(structure, structure.groups)
    missing = {}
    for name, tensor in model.state_dict().items():
        for axis in range(min(tensor.ndim, 2)):
            absent = np.flatnonzero(counts.get((name, axis), np.zeros(tensor.shape[axis])) == 0).tolist()
            if absent:
                missing[name, axis] = absent
    assert missing == of_no_channel(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_first_block_of_a_stage_must_stay(family):
    model, _ = small_model(family)
    config = msgspec.json.decode(msgspec.json.encode(model.config.explicit()))
    for block in removable_blocks(model):
        assert block.path[-1] > 0
        holder = config
        for step in block.path[:-1]:
            holder = holder[step]
        assert holder[block.path[-1]]
        holder[block.path[-1]] = block.placeholder
    for name in ("hidden", "transformers", "convolutional", "blocks"):
        stages = config["widths"].get(name, [])
        for stage in [stages] if name == "convolutional" or family in PATCHES else stages:
            assert not any(stage[1:]), (name, stage)


class Own(nn.Module):
    """A network of another package: two layers, whose channels between them it describes itself."""

    def __init__(self):
        super().__init__()
        self.conv = ConvNormAct(3, 4, 3, activation=nn.ReLU)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.head(self.conv(x))

    def channel_groups(self):
        channels = (*writes(self.conv), *reads(self.head))
        return [ChannelGroup((("hidden",),), "stream", 4, (channels,), scale_equivariant=True)]

    def removable_blocks(self):
        return [RemovableBlock(("blocks", 0), None, self.conv)]

    def products(self):
        return {"scores": (4, 2)}


def test_a_network_of_another_package_describes_itself():
    network = Own()
    structure = Structure(network)
    assert [group.paths for group in structure.groups] == [(("hidden",),)]
    assert structure.shapes["scores"] == (4, 2)
    assert structure.tensors_of(structure.blocks[0])[0] == "conv.conv.weight"
    pruning = Pruning(structure)
    pruning.remove(0, [[1]])
    assert pruning.kept_masks()["head.weight", 1].tolist() == [True, False, True, True]


@torch.no_grad()
def test_a_network_of_another_package_is_equalized_by_its_own_groups():
    network = Own().double().eval()
    network.conv.norm.weight.copy_(torch.tensor([1.0, 64.0, 1.0, 1.0]))
    before = network.conv.conv.weight.clone()
    x = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    expected = network(x)
    equalize_channels(network)
    assert not torch.equal(network.conv.conv.weight, before)
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


def test_own_methods_count_before_those_of_a_family():
    class Variant(MobileViT):
        def channel_groups(self):
            return []

        def removable_blocks(self):
            return []

    model, _ = small_model("mobilevit")
    assert list(channel_groups(model))
    variant = Variant(model.config)
    assert list(channel_groups(variant)) == list(removable_blocks(variant)) == []


def test_a_subclass_of_a_family_has_its_groups():
    class Variant(MobileViT):
        pass

    model, _ = small_model("mobilevit")
    variant = Variant(model.config)
    assert has_channel_groups(variant)
    assert [group.paths for group in channel_groups(variant)] == [group.paths for group in channel_groups(model)]


def test_a_network_without_channel_groups_is_refused_with_a_remedy():
    network = nn.Linear(3, 2)
    assert not has_channel_groups(network)
    remedy = r"^Linear does not say which .* add the methods of mobilevit_sdk\.channel_groups\.HasChannelGroups$"
    for asked in (channel_groups, removable_blocks, Structure):
        with pytest.raises(RequestError, match=remedy):
            asked(network)
    assert products(network) == {}
    before = network.weight.clone()
    equalize_channels(network)
    assert torch.equal(network.weight, before)


def test_a_block_that_nobody_registered_is_not_taken_for_one_without_channels():
    with pytest.raises(TypeError, match="type Linear"):
        block_groups(nn.Linear(3, 2))
    with pytest.raises(TypeError, match="type Linear"):
        stream_slices(nn.Linear(3, 2))
