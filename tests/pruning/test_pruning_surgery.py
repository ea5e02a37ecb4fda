"""Surgery: the pruned network computes what the original does with every unit that went held at zero."""

from __future__ import annotations

import msgspec
import pytest
import torch
from family_contract import as_target_computes_gelu
from helpers import sampled
from hypothesis import given, settings
from hypothesis import strategies as st
from prunable import CONFIGS, SIZE, answers, masked, prunings, small_model, small_spec

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.export import export_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.deployment import TARGETS, audit, deploy
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.models.meta_model import count_macs
from mobilevit_sdk.models.registry import build_model, model_spec
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.pruning.cost import Budget, mac_rates, parameter_rates
from mobilevit_sdk.pruning.importance import random
from mobilevit_sdk.pruning.selection import select, step_of
from mobilevit_sdk.pruning.structure import Structure
from mobilevit_sdk.pruning.surgery import cut

FAMILIES = sorted(CONFIGS)
some = settings(max_examples=max(3, settings().max_examples // 5))
few = settings(max_examples=max(1, settings().max_examples // 20))


def images(count: int = 2, size: int = SIZE) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("family", FAMILIES)
@some
@given(data=st.data())
@torch.no_grad()
def test_a_pruned_network_computes_what_the_masked_original_does(family, data):
    model, spec = small_model(family)
    pruning = data.draw(prunings(Structure(model.double())))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned, _ = cut(model, spec, pruning)
    expected = answers(masked(pruning), images())
    assert (answers(pruned, images()) - expected).abs().max() <= 1e-9 * expected.abs().max()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
@few
@given(data=st.data())
@torch.no_grad()
def test_what_is_pruned_twice_computes_what_the_network_masked_twice_does(family, data):
    model, spec = small_model(family)
    first, first_spec = cut(model, spec, data.draw(prunings(Structure(model.double()))))
    pruning = data.draw(prunings(Structure(first)))
    second, _ = cut(first, first_spec, pruning)
    expected = answers(masked(pruning), images())
    assert (answers(second, images()) - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
@few
@given(data=st.data())
def test_what_a_pruning_saves_is_known_before_it_is_done(family, data):
    model, spec = small_model(family)
    structure = Structure(model)
    budgets = [Budget(structure, mac_rates(structure, (SIZE, SIZE))), Budget(structure, parameter_rates(structure))]
    assert budgets[0].total == count_macs(spec)
    pruning = data.draw(prunings(structure))
    for index, parts in pruning.units.items():
        for budget in budgets:
            budget.remove(index, [sorted(part) for part in parts])
    for number in pruning.blocks:
        for budget in budgets:
            budget.remove_block(number)
    pruned, pruned_spec = cut(model, spec, pruning)
    assert budgets[0].left == count_macs(pruned_spec)
    assert budgets[1].left == sum(parameter.numel() for parameter in pruned.parameters())


PHONE_GRAPHS = [(family, target) for family in FAMILIES for target in sorted(TARGETS)]
BY_DEFAULT = [*PHONE_GRAPHS[:: len(TARGETS) + 1], ("detr", "coreml-ane"), ("detr", "xnnpack")]


@pytest.mark.parametrize("network", sampled(PHONE_GRAPHS, *BY_DEFAULT), ids="-".join)
@few
@given(data=st.data())
@torch.no_grad()
def test_every_phone_graph_of_a_pruned_network_is_exact_and_clean(network, data):
    family, target = network
    model, spec = small_model(family)
    pruned, pruned_spec = cut(model, spec, data.draw(prunings(Structure(model.double()))))
    expected = answers(as_target_computes_gelu(pruned, target), images(1))
    found = answers(deploy(pruned, target, pruned_spec), images(1))
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()
    assert audit(deploy(pruned.float(), target, pruned_spec), target, (SIZE, SIZE)) == []


@pytest.mark.parametrize("family", FAMILIES)
@few
@given(data=st.data())
def test_a_pruned_checkpoint_loads_like_any_other(family, data, tmp_path_factory):
    model, spec = small_model(family)
    pruned, pruned_spec = cut(model, spec, data.draw(prunings(Structure(model))))
    path = tmp_path_factory.mktemp("pruned") / "model.safetensors"
    save_checkpoint(pruned, pruned_spec, path)
    loaded = load_checkpoint(path)
    assert loaded.spec == pruned_spec
    x = images().float()
    assert torch.equal(answers(loaded.model, x), answers(pruned, x))
    with pytest.raises(RequestError, match="is pruned: no timm network has its widths"):
        export_checkpoint(loaded, "timm", path.with_name("timm.safetensors"))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_explicit_config_describes_the_same_network(family):
    model, spec = small_model(family)
    explicit = msgspec.structs.replace(spec, config=msgspec.to_builtins(model.config.explicit()))
    written_out = build_model(explicit).eval()
    written_out.load_state_dict(model.state_dict())
    assert explicit.config != spec.config
    assert torch.equal(answers(written_out, images().float()), answers(model, images().float()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pruned_network_takes_images_of_another_size(family):
    model, spec = small_model(family)
    structure = Structure(model)
    budget = Budget(structure, parameter_rates(structure))
    pruned, pruned_spec = cut(model, spec, select(budget, random(structure, 0), 0.6 * budget.total, multiple=2))
    resized, resized_spec = resize_network(pruned, pruned_spec, 96, 96)
    assert resized_spec.preprocessing.image_size == (96, 96)
    assert answers(resized, images(size=96).float()).isfinite().all()


@pytest.mark.parametrize("name", ["mobilevit_xxs", "mobilevitv2_050", "tiny_vit_5m_224", "efficientvit_m0"])
def test_tensors_keep_multiples_of_eight_channels(name):
    with torch.device("meta"):
        structure = Structure(build_model(model_spec(name)))
    for group in structure.groups:
        step = step_of(group, 8, group.size)
        assert step * group.rows % 8 == 0 or 4 * 2 * step > group.size, group.paths
        assert 4 * step <= max(4, group.size)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("mobilevit", lambda w: w["hidden"].pop(), "not those of the stages|each stage"),
        ("mobilevit", lambda w: w["hidden"][0].__setitem__(0, 0), "each stage needs its first"),
        ("mobilevit", lambda w: w["transformers"][1].pop(), "not those of the stages"),
        ("mobilevitv2", lambda w: w["projected"].__setitem__(1, 0), "not those of the stages"),
        ("tiny_vit", lambda w: w["merging"].pop(), "not those of the stages"),
        ("tiny_vit", lambda w: w["blocks"][0][0].update(num_heads=0), "num_heads"),
        ("efficientvit", lambda w: w["blocks"][0][0].update(heads=[2, 1]), "heads must be increasing"),
        ("efficientvit", lambda w: w["blocks"][0][0].update(heads=[0, 3]), "heads beyond the 3"),
        ("efficientvit", lambda w: w["downsample"].pop(), "not those of 2 stages"),
        ("detr", lambda w: w["decoder"].pop(), "not those of the layers"),
        ("detr", lambda w: w["bottlenecks"][1].__setitem__(0, None), "need their first layer"),
        ("detr", lambda w: w["stages"].pop(), "length 5"),
    ],
)
def test_widths_that_describe_no_network_are_refused(family, change, message, tmp_path):
    model, spec = small_model(family)
    config = msgspec.json.decode(msgspec.json.encode(model.config.explicit()))
    change(config["widths"])
    broken = msgspec.structs.replace(spec, config=config)
    with pytest.raises(RequestError, match=message):
        build_model(broken)
    save_checkpoint(model, broken, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match="describes no network of ours"):
        load_checkpoint(tmp_path / "broken.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_config_of_an_unpruned_network_says_nothing_of_widths(family):
    assert "widths" not in small_spec(family).config
