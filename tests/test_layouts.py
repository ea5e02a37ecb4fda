"""Public releases of MobileViT v1: their names, variants, preprocessing, and what their own code answers."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import msgspec
import pytest
import safetensors.torch
import torch
from golden.make_mobilevit import LOGITS, NAMES, SIZES, VARIANTS, images, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from mobilevit_sdk.checkpoint import load_checkpoint
from mobilevit_sdk.data import crop_image, to_model_input
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.layouts import all_layouts, tensor_shapes
from mobilevit_sdk.models.mobilevit import MobileViTConfig, StageConfig
from mobilevit_sdk.registry import create_model, model_spec
from mobilevit_sdk.spec import Preprocessing

PARAMETERS = dict(zip(VARIANTS, (1_272_024, 2_317_848, 5_578_632), strict=True))
Weights = dict[str, Tensor]

# How ml-cvnets calls what timm calls otherwise, written down a second time and the other way round. In this order.
TIMM_TO_CVNETS = (
    (r"^stem\.", "conv_1."),
    (r"^final_conv\.", "conv_1x1_exp."),
    (r"^head\.fc\.", "classifier.fc."),
    (r"^stages\.(\d)\.", lambda found: f"layer_{int(found[1]) + 1}."),
    (r"\.conv(?:1_1x1|2_kxk|3_1x1)\.", lambda found: f".block{found[0]}"),
    (r"\.conv1_1x1\.", ".exp_1x1."),
    (r"\.conv2_kxk\.", ".conv_3x3."),
    (r"\.conv3_1x1\.", ".red_1x1."),
    (r"\.conv_kxk\.", ".local_rep.conv_3x3."),
    (r"\.conv_1x1\.weight", ".local_rep.conv_1x1.conv.weight"),
    (r"\.conv_fusion\.", ".fusion."),
    (r"\.conv\.", ".block.conv."),
    (r"\.bn\.", ".block.norm."),
    (r"layer_3\.1\.norm\.", "layer_3.1.global_rep.2."),
    (r"layer_4\.1\.norm\.", "layer_4.1.global_rep.4."),
    (r"layer_5\.1\.norm\.", "layer_5.1.global_rep.3."),
    (r"\.transformer\.", ".global_rep."),
    (r"\.norm1\.", ".pre_norm_mha.0."),
    (r"\.attn\.qkv\.", ".pre_norm_mha.1.qkv_proj."),
    (r"\.attn\.proj\.", ".pre_norm_mha.1.out_proj."),
    (r"\.norm2\.", ".pre_norm_ffn.0."),
    (r"\.mlp\.fc1\.", ".pre_norm_ffn.1."),
    (r"\.mlp\.fc2\.", ".pre_norm_ffn.4."),
)


def shapes(release: str, variant: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the release's own code gave them."""
    stored = json.loads(NAMES.read_text())["timm" if release == "ml-cvnets" else release]
    found = {name: tuple(each[VARIANTS.index(variant)]) for name, each in stored.items()}
    return {_cvnets_name(name): shape for name, shape in found.items()} if release == "ml-cvnets" else found


def _cvnets_name(name: str) -> str:
    for pattern, replacement in TIMM_TO_CVNETS:
        name = re.sub(pattern, replacement, name)
    return name


def release_weights(release: str) -> Weights:
    """Weights of mobilevit_xxs under the names of a release; those of ml-cvnets are timm's."""
    if release == "ml-cvnets":
        return {_cvnets_name(name): tensor for name, tensor in release_weights("timm").items()}
    return dict(_made_weights(release))


@cache
def _made_weights(release: str) -> Weights:
    return weights(shapes(release, "mobilevit_xxs"))


def save(folder: Path, tensors: Weights) -> Path:
    path = folder / "weights.pth"
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("release", "suffix"), [("timm", ".pth"), ("transformers", ".safetensors"), ("ml-cvnets", ".pt")]
)
@torch.inference_mode()
def test_loaded_network_answers_as_the_release_does(
    tmp_path: Path, release: str, suffix: str, size: tuple[int, int]
) -> None:
    path, tensors = tmp_path / f"weights{suffix}", release_weights(release)
    if suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)
    golden = safetensors.torch.load_file(LOGITS)
    expected = golden[f"{'timm' if release == 'ml-cvnets' else release}/{size[0]}x{size[1]}"]
    checkpoint = load_checkpoint(path)
    logits = checkpoint.model(images(size))
    assert checkpoint.layout == release
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_names_of_cvnets_are_those_of_its_code() -> None:
    names = shapes("ml-cvnets", "mobilevit_xxs")
    assert {
        "conv_1.block.conv.weight",
        "layer_1.0.block.exp_1x1.block.conv.weight",
        "layer_2.2.block.conv_3x3.block.norm.running_mean",
        "layer_5.0.block.red_1x1.block.norm.weight",
        "layer_3.1.local_rep.conv_3x3.block.conv.weight",
        "layer_3.1.local_rep.conv_1x1.block.conv.weight",
        "layer_4.1.global_rep.3.pre_norm_mha.1.qkv_proj.weight",
        "layer_4.1.global_rep.0.pre_norm_ffn.4.bias",
        "layer_3.1.global_rep.2.weight",
        "layer_5.1.conv_proj.block.norm.bias",
        "layer_5.1.fusion.block.conv.weight",
        "conv_1x1_exp.block.conv.weight",
        "classifier.fc.bias",
    } <= names.keys()


@pytest.mark.parametrize("release", ["ml-cvnets", "timm", "transformers"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_tell_the_variant_and_names_the_release(tmp_path: Path, release: str, variant: str) -> None:
    tensors = {name: torch.zeros(shape) for name, shape in shapes(release, variant).items()}
    checkpoint = load_checkpoint(save(tmp_path, tensors))
    assert (checkpoint.spec.model, checkpoint.layout) == (variant, release)
    assert sum(parameter.numel() for parameter in checkpoint.model.parameters()) == PARAMETERS[variant]


def test_own_names_without_a_header_are_known(tmp_path: Path) -> None:
    model = create_model("mobilevit_xs", num_classes=3)
    checkpoint = load_checkpoint(save(tmp_path, model.state_dict()))
    assert (checkpoint.layout, checkpoint.spec.model, checkpoint.spec.num_classes) == ("own", "mobilevit_xs", 3)


@torch.inference_mode()
def test_channel_order_belongs_to_the_release(tmp_path: Path) -> None:
    """timm's weights are those of ml-cvnets with the stem's input channels turned: the answer must be the same."""
    datasets = pytest.importorskip("sklearn.datasets")
    photograph = Image.fromarray(datasets.load_sample_image("china.jpg"))
    timm = release_weights("timm")
    trained = {_cvnets_name(name): tensor for name, tensor in timm.items()}
    trained["conv_1.block.conv.weight"] = timm["stem.conv.weight"].flip(1)
    pixels = torch.from_numpy(crop_image(photograph, Preprocessing(image_size=(64, 64), resize_size=64)))[None]
    answers = {}
    for release, tensors in (("timm", timm), ("ml-cvnets", trained)):
        checkpoint = load_checkpoint(save(tmp_path, tensors))
        answers[release] = checkpoint.model(to_model_input(pixels, checkpoint.spec.preprocessing))
        wrong = checkpoint.model(to_model_input(pixels.flip(1), checkpoint.spec.preprocessing))
        assert (wrong - answers[release]).abs().max() > 1e-2 * wrong.abs().max()
    assert torch.allclose(answers["timm"], answers["ml-cvnets"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("release", "order", "resize", "interpolation"),
    [("ml-cvnets", "bgr", 288, "bilinear"), ("transformers", "bgr", 288, "bilinear"), ("timm", "rgb", 284, "bicubic")],
)
def test_preprocessing_is_the_release_s(
    tmp_path: Path, release: str, order: str, resize: int, interpolation: str
) -> None:
    preprocessing = load_checkpoint(save(tmp_path, release_weights(release))).spec.preprocessing
    assert (preprocessing.channel_order, preprocessing.resize_size) == (order, resize)
    assert (preprocessing.interpolation, preprocessing.image_size) == (interpolation, (256, 256))
    assert preprocessing.mean == (0, 0, 0)
    assert preprocessing.std == (1, 1, 1)


@pytest.mark.parametrize("release", ["ml-cvnets", "timm", "transformers"])
def test_step_counts_may_be_missing(tmp_path: Path, release: str) -> None:
    tensors = {name: t for name, t in release_weights(release).items() if not name.endswith("num_batches_tracked")}
    assert load_checkpoint(save(tmp_path, tensors)).layout == release


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.module."])
def test_names_of_wrapped_models_are_unwrapped(tmp_path: Path, wrapper: str) -> None:
    tensors = {wrapper + name: tensor for name, tensor in release_weights("timm").items()}
    assert load_checkpoint(save(tmp_path, tensors)).layout == "timm"


@pytest.mark.parametrize("prefix", ["mobilevit.", ""])
def test_backbone_says_that_it_has_no_classifier(tmp_path: Path, prefix: str) -> None:
    tensors = {
        prefix + name.removeprefix("mobilevit."): tensor
        for name, tensor in release_weights("transformers").items()
        if not name.startswith("classifier")
    }
    with pytest.raises(CheckpointError, match=r"has no classifier \(classifier\.weight\).*backbone of mobilevit_xxs"):
        load_checkpoint(save(tmp_path, tensors))


def test_class_count_is_the_heads_and_a_wrong_one_names_both_and_the_key(tmp_path: Path) -> None:
    tensors = release_weights("timm")
    tensors |= {"head.fc.weight": torch.ones(10, 320), "head.fc.bias": torch.ones(10)}
    path = save(tmp_path, tensors)
    assert load_checkpoint(path, num_classes=10).spec.num_classes == 10
    with pytest.raises(CheckpointError, match=r"10 classes \(head\.fc\.weight\).*1000"):
        load_checkpoint(path, num_classes=1000)


def test_model_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, release_weights("timm"))
    assert load_checkpoint(path, model="mobilevit_xxs").spec.model == "mobilevit_xxs"
    with pytest.raises(CheckpointError, match="holds mobilevit_xxs, not mobilevit_s"):
        load_checkpoint(path, model="mobilevit_s")


@settings(max_examples=12, deadline=None)
@given(data=st.data(), release=st.sampled_from(["ml-cvnets", "timm", "transformers"]))
def test_every_key_counts(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, release: str) -> None:
    """Whichever tensor is dropped, renamed or reshaped, the error names it and the layouts that were tried."""
    tensors = {name: torch.zeros(shape) for name, shape in shapes(release, "mobilevit_xxs").items()}
    name = data.draw(st.sampled_from([name for name in tensors if not name.endswith("num_batches_tracked")]))
    change = data.draw(st.sampled_from(["drop", "rename", "reshape", "add"]))
    if change == "reshape":
        tensors[name] = torch.zeros(*tensors[name].shape, 2)
    elif change == "add":
        tensors[f"{name}_too"] = torch.zeros(1)
    else:
        tensor = tensors.pop(name)
        tensors |= {f"{name}_too": tensor} if change == "rename" else {}
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(save(tmp_path_factory.mktemp("key"), tensors))
    message = str(caught.value)
    assert name.removeprefix("mobilevit.") in message
    assert "own (mobilevit), ml-cvnets (mobilevit), timm (mobilevit), transformers (mobilevit)" in message
    assert "\n" not in message


def test_foreign_network_is_named_by_its_tensors(tmp_path: Path) -> None:
    resnet = {f"layer{i}.0.conv1.weight": torch.ones(4, 4, 3, 3) for i in range(1, 5)}
    with pytest.raises(
        CheckpointError, match=r"no network known here: it holds 4 tensors \(layer1\.0\.conv1\.weight, .* 1 more\)"
    ):
        load_checkpoint(save(tmp_path, resnet))


_stages = st.builds(
    StageConfig,
    channels=st.just(8),
    blocks=st.integers(1, 3),
    stride=st.just(1),
    dim=st.sampled_from([0, 8]),
    mlp_dim=st.just(8),
    depth=st.integers(1, 3),
)


@settings(max_examples=20, deadline=None)
@given(stages=st.lists(_stages, min_size=1, max_size=4))
def test_own_names_map_one_to_one_for_any_depth(stages: list[StageConfig]) -> None:
    """Stages of a shape that the releases know (one block before attention) never share a name between tensors."""
    stages = [msgspec.structs.replace(stage, blocks=1) if stage.dim else stage for stage in stages]
    config = MobileViTConfig(stages=tuple(stages), expansion=2, final_channels=8)
    spec = msgspec.structs.replace(model_spec("mobilevit_xxs"), config=msgspec.to_builtins(config))
    names = tensor_shapes(spec)
    for layout in all_layouts():
        theirs = [name for group in layout.sources(config, names).values() for name in group]
        assert len(theirs) == len(set(theirs))
