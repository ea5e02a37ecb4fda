"""Which network a file holds, told by names and shapes alone; near misses; networks without weights."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
import torch
from golden.reference import ALL, release_weights
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mobilevit_sdk.checkpoints import identify
from mobilevit_sdk.checkpoints.identify import match_release
from mobilevit_sdk.checkpoints.key_maps import OWN, KeyMap, all_key_maps
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models import meta_model
from mobilevit_sdk.models.catalog import catalog
from mobilevit_sdk.models.meta_model import build_bare_on_meta, build_on_meta, tensor_shapes
from mobilevit_sdk.models.registry import build_model, list_models, model_entries, model_spec
from mobilevit_sdk.spec import ModelSpec

Shapes = dict[str, Tensor]


def layout_of(family: str, release: str) -> KeyMap:
    return next(each for each in all_key_maps() if (each.family, each.release) == (family, release))


def shapes(release: str, variant: str, **options: Any) -> Shapes:
    """Names and shapes of a release's file, without values."""
    spec = model_spec(variant, **options)
    layout = layout_of(spec.family, release)
    ours = tensor_shapes(spec)
    found = {}
    for name, parts in layout.sources(msgspec.convert(spec.config, type(_config(variant))), ours).items():
        first, *rest = ours[name] or (None,)
        for part in parts:
            shape = () if first is None else (first // len(parts), *rest)
            found[part] = torch.empty(shape, device="meta")
    return found


def _config(variant: str) -> Any:
    return next(entry.config for entry in model_entries() if entry.name == variant)


def refused(tensors: Mapping[str, Tensor], model: str | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        match_release(tensors, model, "file")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("release", ["timm", "cream"])
@pytest.mark.parametrize("variant", ["tiny_vit_21m_224", "tiny_vit_21m_384", "tiny_vit_21m_512"])
def test_variants_that_differ_in_windows_alone_are_told_apart(release: str, variant: str) -> None:
    match = match_release(shapes(release, variant), None, "file")
    assert (match.spec.model, match.options) == (variant, {})


@pytest.mark.parametrize("release", ["timm", "cream", OWN])
def test_windows_of_no_variant_are_read_and_the_registry_s_order_decides(release: str) -> None:
    match = match_release(shapes(release, "tiny_vit_21m_512", window_sizes=(8, 16, 8)), None, "file")
    assert (match.problems, match.spec.model) == (0, "tiny_vit_21m_224")
    assert match.options == {"window_sizes": (8, 16, 8)}
    assert match.spec.config["window_sizes"] == [8, 16, 8]


def test_second_head_is_read_and_its_classes_with_it() -> None:
    match = match_release(shapes("cream", "efficientvit_m0", distilled=True, num_classes=7), None, "file")
    assert (match.problems, match.spec.model, match.spec.num_classes) == (0, "efficientvit_m0", 7)
    assert match.options == {"distilled": True}


def test_model_overrides_detection() -> None:
    """The file is of the variant for 384 pixels; held against another that can have its windows, it is that one."""
    tensors = shapes("timm", "tiny_vit_21m_384")
    match = match_release(tensors, "tiny_vit_21m_224", "file")
    assert (match.spec.model, match.options) == ("tiny_vit_21m_224", {"window_sizes": (12, 24, 12)})
    message = refused(tensors, "tiny_vit_11m_224")
    assert message.startswith("file holds tiny_vit_21m_384, not tiny_vit_11m_224; for tiny_vit_11m_224 of timm: ")
    assert "patch_embed.conv1.conv.weight [48, 3, 3, 3] instead of [32, 3, 3, 3]" in message
    assert "file holds tiny_vit_21m_384, not efficientvit_m0" in refused(tensors, "efficientvit_m0")


def test_model_that_came_nearest_to_a_broken_file_is_the_one_asked_for() -> None:
    tensors = shapes("timm", "mobilevit_xxs")
    del tensors["stem.bn.bias"]
    assert "nearest to mobilevit_xxs of timm but does not fit: 1 missing (stem.bn.bias)" in refused(tensors)
    message = refused(tensors, "mobilevit_xs")
    assert "nearest to mobilevit_xs of timm but does not fit: 1 missing (stem.bn.bias)" in message
    assert "of another shape" in message


def without(tensors: Shapes, *starts: str) -> Shapes:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(starts)}


@pytest.mark.parametrize(
    ("release", "variant", "lacking"),
    [
        ("transformers", "mobilevit_xs", ("classifier",)),
        ("transformers", "mobilevit_xs", ("classifier", "conv_1x1_exp")),
        ("transformers", "mobilevitv2_050", ("classifier",)),
        ("timm", "tiny_vit_5m_224", ("head.fc",)),
        ("cream", "efficientvit_m1", ("head.bn", "head.l")),
        ("cream", "efficientvit_m1", ("head.l",)),
    ],
)
def test_backbones_are_known_by_their_variant(release: str, variant: str, lacking: tuple[str, ...]) -> None:
    match = match_release(without(shapes(release, variant), *lacking), None, "file")
    assert match.is_backbone
    assert match.spec.model == variant


def test_file_without_its_classifier_that_lacks_more_is_no_backbone() -> None:
    tensors = without(shapes("transformers", "mobilevit_xs"), "classifier")
    assert "missing (conv_stem" in refused(without(tensors, "conv_stem"))
    assert "1 left over (more)" in refused({**tensors, "more": torch.empty(1, device="meta")})
    assert "1 missing (head.fc.bias)" in refused(without(shapes("timm", "mobilevit_xs"), "head.fc.bias"))


# Names of networks that merely resemble, as their own code has them.
NEAR_MISSES = {
    "chinhsuanwu/mobilevit-pytorch": """
        conv1.0.weight conv1.1.weight mv2.0.conv.0.weight mv2.0.conv.7.running_var fc.weight mvit.0.conv1.0.weight
        mvit.0.transformer.layers.0.0.fn.to_qkv.weight mvit.0.conv4.1.bias""",
    "EfficientViT of MIT": """
        backbone.input_stem.op_list.0.conv.weight head.op_list.2.linear.weight
        backbone.stages.2.op_list.1.context_module.main.qkv.conv.weight""",
    "EfficientViT of MIT in timm": """
        stem.in_conv.conv.weight stages.0.blocks.0.main.inverted_conv.conv.weight head.classifier.4.weight
        stages.2.blocks.1.context_module.main.qkv.conv.weight""",
    "EfficientNet": "features.0.0.weight features.1.0.block.0.0.weight classifier.1.weight classifier.1.bias",
    "DeiT": "cls_token pos_embed patch_embed.proj.weight blocks.0.attn.qkv.weight head.weight",
    "no tensors": "",
}


@pytest.mark.parametrize("network", NEAR_MISSES)
@pytest.mark.parametrize("model", [None, "mobilevit_s"])
def test_other_implementations_are_refused_with_what_came_nearest(network: str, model: str | None) -> None:
    message = refused({name: torch.empty(8, 8, device="meta") for name in NEAR_MISSES[network].split()}, model)
    nearest = r"is of no network known here: it holds .*nearest, with \d+% of the names, is [\w-]+ \(\w+\)"
    assert re.search(nearest, message)


@given(
    released=st.sampled_from(ALL),
    scale=st.sampled_from([0.5, 0.9, 1.1, 2.0]),
    data=st.data(),
)
def test_a_tensor_of_another_width_is_refused_with_its_name(
    released: tuple[str, str], scale: float, data: st.DataObject
) -> None:
    """Where all others are as published; a network that is of other widths throughout is read as it is."""
    family, release = released
    tensors = shapes(release, data.draw(st.sampled_from(list_models(family=family))))
    vectors = [name for name, tensor in tensors.items() if tensor.ndim and max(tensor.shape) > 16]
    name = data.draw(st.sampled_from(vectors))
    sides = [round(side * scale) if side > 16 else side for side in tensors[name].shape]
    tensors[name] = torch.empty(sides, device="meta")
    message = refused(tensors)
    assert f"of {release} but does not fit" in message
    assert "of another shape" in message


# Sizes as a hostile file may claim them; with a zero among the sides, no byte need stand behind them.
_sides = st.sampled_from([0, 1, 2, 3, 7, 49, 50, 64**2, 65**2, 10**6, 10**9, 2**31, 2**62])


@given(
    released=st.sampled_from(ALL),
    strange=st.dictionaries(st.integers(0, 2000), st.lists(_sides, max_size=4), max_size=4),
    everywhere=st.one_of(st.none(), st.lists(_sides, min_size=2, max_size=2)),
)
def test_whatever_shapes_a_file_claims_it_fits_or_is_refused(
    released: tuple[str, str], strange: dict[int, list[int]], everywhere: list[int] | None
) -> None:
    """Nothing but CheckpointError, and no memory for what is claimed."""
    tensors = {name: torch.empty(tensor.shape, device="meta") for name, tensor in release_weights(*released).items()}
    tables = [name for name in tensors if "attention_biases" in name or name.endswith(("head.weight", "fc.weight"))]
    changes = {list(tensors)[position % len(tensors)]: shape for position, shape in strange.items()}
    changes |= dict.fromkeys(tables, everywhere) if everywhere else {}
    for name, shape in changes.items():
        try:
            tensors[name] = torch.empty(shape, device="meta")
        except RuntimeError:  # more elements than numbers can count: no file can say so
            continue
    with contextlib.suppress(CheckpointError):
        assert match_release(tensors, None, "file").fits


def test_nothing_is_computed_for_windows_that_a_file_only_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest windows: their index tables would take 1.3 GB."""
    built: list[nn.Module] = []

    def build(spec: ModelSpec) -> nn.Module:
        built.append(build_model(spec))
        return built[-1]

    monkeypatch.setattr(meta_model, "build_model", build)
    tensors = shapes("timm", "tiny_vit_5m_224", window_sizes=(64, 64, 64))
    assert match_release(tensors, None, "file").options == {"window_sizes": (64, 64, 64)}
    for name in [name for name in tensors if name.endswith("attention_biases")]:
        tensors[name] = torch.empty(4, 65**2, device="meta")
    assert "of another shape" in refused(tensors)
    assert built
    assert all(buffer.is_meta or buffer.nbytes < 100 for network in built for buffer in network.buffers())


def fake(monkeypatch: pytest.MonkeyPatch, options: Callable[[Mapping[str, Tensor]], dict[str, Any]]) -> Shapes:
    """A release whose `options` are these, and a file of it."""
    layout = KeyMap("fake", "mobilevit", modules=lambda config: {"stem.conv": ("first",)}, options=options)
    monkeypatch.setattr(identify, "all_key_maps", lambda: (layout,))
    return {name.replace("stem.conv", "first"): tensor for name, tensor in shapes(OWN, "mobilevit_xxs").items()}


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ({"stem_channels": "wide"}, "Expected `int`, got `str` - at `$.stem_channels`"),
        ({"stem_channels": 10**9}, "Expected `int` <= 16384 - at `$.stem_channels`"),
        ({"stages": ()}, "length >= 1 - at `$.stages`"),
        ({"color": 3}, "unknown field `color`"),
        ({"stem_channels": torch.ones(2)}, "options: "),
    ],
)
def test_options_that_no_config_can_hold_are_said(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], complaint: str
) -> None:
    assert complaint in refused(fake(monkeypatch, lambda tensors: found))


def test_options_that_fail_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused(fake(monkeypatch, lambda tensors: {"stem_channels": tensors["nowhere"].shape[0]}))
    assert "1 of another shape (options: 'nowhere')" in message


def test_options_that_build_no_network_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused(fake(monkeypatch, lambda tensors: {"num_heads": 7}))
    assert "dim 64 is not divisible by num_heads 7" in message


def test_family_with_no_layout_but_our_own_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify, "all_key_maps", lambda: (KeyMap(OWN, "mobilevit", modules=lambda config: {}),))
    assert match_release(shapes(OWN, "mobilevit_s"), None, "file").spec.model == "mobilevit_s"


LARGE = {entry.model for entry in catalog() if entry.parameters > 25_000_000}  # which take seconds to initialize


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name, marks=[pytest.mark.slow] if entry.name in LARGE else [])
        for entry in model_entries()
    ],
)
def test_network_without_weights_is_the_network(entry: Any) -> None:
    """Names, shapes and what the network computes itself; for an untrusted config, none of the latter."""
    spec = model_spec(entry.name)
    built, empty, bare = build_model(spec), build_on_meta(spec), build_bare_on_meta(spec)
    expected = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    for network in (empty, bare):
        assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == expected
        assert all(parameter.is_meta or not parameter.any() for parameter in network.parameters())
    assert str(empty) == str(built)
    computed = dict(built.named_buffers())
    assert all(torch.equal(buffer, computed[name]) for name, buffer in empty.named_buffers())
    assert all(buffer.is_meta or buffer.ndim == 0 for buffer in bare.buffers())


def test_other_tensors_are_made_as_ever() -> None:
    """Outside of a build_on_meta nothing is different; inside, devices that are asked for are kept."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(3, device="cpu").fill_(2.0))

    with build_on_meta.__globals__["_OnMeta"](bare=True):
        odd = Odd()
    assert odd.weight.tolist() == [2.0, 2.0, 2.0]
    assert torch.empty(2).device.type == "cpu"
