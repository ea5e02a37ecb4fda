"""Public releases: how their files are told apart, which variant they hold, what is said of those that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import pytest
import torch
from golden.make import VARIANTS, digest
from golden.reference import ALL, Shapes, Weights, digests, release_weights, save_as_published, shapes
from golden.release_names import NAMES
from golden.renaming import RULES, renamed
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.key_maps import KeyMap, all_key_maps, tensor_shapes
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import crop_image, to_model_input
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.mobilevit import MobileViTConfig, StageConfig
from mobilevit_sdk.models.registry import model_entries, model_entry, model_spec
from mobilevit_sdk.spec import ModelSpec, Preprocessing

EVERY_VARIANT = [(family, release, variant) for family, release in ALL for variant in VARIANTS[family]]
CLASSIFIERS = {
    ("mobilevit", "timm"): "head.fc",
    ("mobilevit", "transformers"): "classifier",
    ("mobilevit", "ml-cvnets"): "classifier.fc",
    ("mobilevitv2", "timm"): "head.fc",
    ("mobilevitv2", "transformers"): "classifier",
    ("mobilevitv2", "ml-cvnets"): "classifier.1",
    ("tiny_vit", "timm"): "head.fc",
    ("tiny_vit", "cream"): "head",
    ("efficientvit", "timm"): "head.linear",
    ("efficientvit", "cream"): "head.l",
}


def layout_of(family: str, release: str) -> KeyMap:
    return next(layout for layout in all_key_maps() if (layout.family, layout.release) == (family, release))


@cache
def own_shapes(variant: str, num_classes: int = 1000) -> Shapes:
    return tensor_shapes(model_spec(variant, num_classes=num_classes))


def file_shapes(family: str, release: str, variant: str, num_classes: int = 1000) -> Shapes:
    """Names and shapes of a release's file, as our key map has them."""
    layout, ours = layout_of(family, release), own_shapes(variant, num_classes)
    theirs: Shapes = {}
    for name, parts in layout.sources(model_entry(variant).config, ours).items():
        prefix = "" if name.startswith(f"{layout.classifier}.") else layout.prefix
        shape = ours[name]
        theirs |= {prefix + part: (shape[0] // len(parts), *shape[1:]) if shape else () for part in parts}
    return theirs


def zeros(named: Shapes) -> Weights:
    return {name: torch.zeros(shape, dtype=torch.float16) for name, shape in named.items()}


def save(folder: Path, tensors: Weights) -> Path:
    path = folder / "weights.pth"
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize(("family", "release", "variant"), EVERY_VARIANT)
def test_names_and_shapes_are_the_release_s(family: str, release: str, variant: str) -> None:
    found = file_shapes(family, release, variant)
    if (family, release) in RULES:
        assert found == renamed(file_shapes(family, "timm", variant), family, release)
    else:
        if variant == VARIANTS[family][0]:
            assert found == shapes(family, release)  # the same as below, but shows where they differ
        assert digest(found) == digests(release)[variant]["sha256"]


@pytest.mark.parametrize("variant", VARIANTS["tiny_vit"])
def test_names_and_shapes_with_the_classes_of_imagenet_22k_are_timm_s(variant: str) -> None:
    found = file_shapes("tiny_vit", "timm", variant, num_classes=21841)
    assert digest(found) == digests("timm")[f"{variant}/21841"]["sha256"]


@dataclass(frozen=True)
class Found:
    """What was made of a file, without the network itself."""

    spec: ModelSpec
    layout: str
    parameters: int


@pytest.fixture(scope="module")
def found_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], Found]:
    """(family, release, variant) -> what a file of that name and these shapes is taken for."""

    @cache
    def find(family: str, release: str, variant: str) -> Found:
        folder = tmp_path_factory.mktemp("variant")
        path = save_as_published(folder, release, zeros(file_shapes(family, release, variant)))
        checkpoint = load_checkpoint(path)
        path.unlink()
        parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
        return Found(checkpoint.spec, checkpoint.layout, parameters)

    return find


@pytest.mark.parametrize(("family", "release", "variant"), EVERY_VARIANT)
def test_shapes_tell_the_variant_and_names_the_release(found_in, family: str, release: str, variant: str) -> None:
    found = found_in(family, release, variant)
    assert (found.spec.model, found.layout, found.spec.num_classes) == (variant, release, 1000)
    assert found.parameters == digests("timm")[variant]["parameters"]


@pytest.mark.parametrize(("family", "release"), NAMES)
def test_names_of_releases_without_a_package_are_those_of_their_code(family: str, release: str) -> None:
    assert set(NAMES[family, release].split()) <= shapes(family, release).keys()


@pytest.mark.parametrize("variant", ["mobilevit_xs", "mobilevitv2_075", "tiny_vit_11m_224", "efficientvit_m2"])
def test_own_names_without_a_header_are_known(tmp_path: Path, variant: str) -> None:
    model = create_model(variant, num_classes=3)
    checkpoint = load_checkpoint(save(tmp_path, model.state_dict()))
    assert (checkpoint.layout, checkpoint.spec.model, checkpoint.spec.num_classes) == ("own", variant, 3)


@torch.inference_mode()
def test_channel_order_belongs_to_the_release(tmp_path: Path) -> None:
    """timm's weights are those of ml-cvnets with the stem's input channels turned: the answer must be the same."""
    datasets = pytest.importorskip("sklearn.datasets")
    photograph = Image.fromarray(datasets.load_sample_image("china.jpg"))
    timm = release_weights("mobilevit", "timm")
    trained = renamed(timm, "mobilevit", "ml-cvnets")
    trained["conv_1.block.conv.weight"] = timm["stem.conv.weight"].flip(1)
    pixels = torch.from_numpy(crop_image(photograph, Preprocessing(image_size=(64, 64), resize_size=64)))[None]
    answers = {}
    for release, tensors in (("timm", timm), ("ml-cvnets", trained)):
        checkpoint = load_checkpoint(save(tmp_path, tensors))
        answers[release] = checkpoint.model(to_model_input(pixels, checkpoint.spec.preprocessing))
        wrong = checkpoint.model(to_model_input(pixels.flip(1), checkpoint.spec.preprocessing))
        assert (wrong - answers[release]).abs().max() > 1e-2 * wrong.abs().max()
    assert torch.allclose(answers["timm"], answers["ml-cvnets"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", [variant for variants in VARIANTS.values() for variant in variants])
def test_preprocessing_of_timm_is_what_its_code_says(found_in, variant: str) -> None:
    said = digests("timm")[variant]["data"]
    preprocessing = found_in(model_entry(variant).family, "timm", variant).spec.preprocessing
    assert preprocessing.image_size == tuple(said["input_size"][1:])
    assert preprocessing.resize_mode == {"center": "shorter", "squash": "squash"}[said["crop_mode"]]
    assert preprocessing.resize_size == int(preprocessing.image_size[0] / said["crop_pct"])
    assert (preprocessing.interpolation, preprocessing.channel_order) == (said["interpolation"], "rgb")
    assert (preprocessing.mean, preprocessing.std) == (tuple(said["mean"]), tuple(said["std"]))


_NONE, _IMAGENET = ((0.0,) * 3, (1.0,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("release", "variant", "image_size", "resize", "order", "statistics"),
    [
        ("ml-cvnets", "mobilevit_xxs", 256, (288, "shorter", "bilinear"), "bgr", _NONE),
        ("transformers", "mobilevit_xxs", 256, (288, "shorter", "bilinear"), "bgr", _NONE),
        ("ml-cvnets", "mobilevitv2_050", 256, (288, "shorter", "bicubic"), "rgb", _NONE),
        ("transformers", "mobilevitv2_050", 256, (288, "shorter", "bicubic"), "rgb", _NONE),
        ("cream", "tiny_vit_5m_224", 224, (256, "shorter", "bicubic"), "rgb", _IMAGENET),
        ("cream", "tiny_vit_21m_384", 384, (384, "squash", "bicubic"), "rgb", _IMAGENET),
        ("cream", "tiny_vit_21m_512", 512, (512, "squash", "bicubic"), "rgb", _IMAGENET),
        ("cream", "efficientvit_m0", 224, (256, "shorter", "bicubic"), "rgb", _IMAGENET),
    ],
)
def test_preprocessing_is_the_release_s(
    found_in,
    release: str,
    variant: str,
    image_size: int,
    resize: tuple[int, str, str],
    order: str,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
) -> None:
    preprocessing = found_in(model_entry(variant).family, release, variant).spec.preprocessing
    assert preprocessing.image_size == (image_size, image_size)
    assert (preprocessing.resize_size, preprocessing.resize_mode, preprocessing.interpolation) == resize
    assert (preprocessing.channel_order, (preprocessing.mean, preprocessing.std)) == (order, statistics)


@pytest.mark.parametrize(("family", "release"), ALL)
def test_step_counts_may_be_missing(tmp_path: Path, family: str, release: str) -> None:
    tensors = release_weights(family, release)
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    assert len(kept) < len(tensors)
    assert load_checkpoint(save(tmp_path, kept)).layout == release


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.module."])
@pytest.mark.parametrize(("family", "release"), [("mobilevit", "timm"), ("tiny_vit", "cream")])
def test_names_of_wrapped_models_are_unwrapped(tmp_path: Path, family: str, release: str, wrapper: str) -> None:
    tensors = {wrapper + name: tensor for name, tensor in release_weights(family, release).items()}
    assert load_checkpoint(save_as_published(tmp_path, release, tensors)).layout == release


@pytest.mark.parametrize(("family", "release"), ALL)
def test_backbone_says_that_it_has_no_classifier(tmp_path: Path, family: str, release: str) -> None:
    head = CLASSIFIERS[family, release]
    tensors = {n: t for n, t in release_weights(family, release).items() if n.rpartition(".")[0] != head}
    with pytest.raises(
        CheckpointError, match=rf"has no classifier \({head}\.weight\).*backbone of {VARIANTS[family][0]} of {release}"
    ):
        load_checkpoint(save(tmp_path, tensors))


@pytest.mark.parametrize(
    ("family", "kind", "reason"),
    [
        ("mobilevit", "backbone", r"has no classifier \(classifier\.weight\).*backbone of mobilevit_xxs"),
        ("mobilevitv2", "backbone", r"has no classifier \(classifier\.weight\).*backbone of mobilevitv2_050"),
        ("mobilevit", "unexpanded", r"has no classifier \(classifier\.weight\).*backbone of mobilevit_xxs"),
    ],
)
def test_backbones_of_transformers_are_known_without_their_prefix(
    tmp_path: Path, family: str, kind: str, reason: str
) -> None:
    lacking = ("classifier.", "conv_1x1_exp.") if kind == "unexpanded" else "classifier."
    names = {
        name.removeprefix(f"{family}."): tensor for name, tensor in release_weights(family, "transformers").items()
    }
    tensors = {name: tensor for name, tensor in names.items() if not name.startswith(lacking)}
    found = digest({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    assert found == digests("transformers")[f"{VARIANTS[family][0]}/{kind}"]["sha256"]
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(save(tmp_path, tensors))


@pytest.mark.parametrize(("family", "release"), ALL)
def test_class_count_is_the_heads_and_a_wrong_one_names_both_and_the_key(
    tmp_path: Path, family: str, release: str
) -> None:
    tensors, head = release_weights(family, release), CLASSIFIERS[family, release]
    width = tensors[f"{head}.weight"].shape[1]
    tensors |= {f"{head}.weight": torch.ones(10, width), f"{head}.bias": torch.ones(10)}
    path = save(tmp_path, tensors)
    assert load_checkpoint(path, num_classes=10).spec.num_classes == 10
    with pytest.raises(CheckpointError, match=rf"10 classes \({head}\.weight\).*1000"):
        load_checkpoint(path, num_classes=1000)


@pytest.mark.parametrize("family", VARIANTS)
def test_model_that_does_not_fit_is_refused(tmp_path: Path, family: str) -> None:
    held, other = VARIANTS[family][:2]
    path = save(tmp_path, release_weights(family, "timm"))
    assert load_checkpoint(path, model=held).spec.model == held
    with pytest.raises(CheckpointError, match=f"holds {held}, not {other}"):
        load_checkpoint(path, model=other)


@given(data=st.data(), released=st.sampled_from(ALL))
def test_every_key_counts(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, released: tuple[str, str]
) -> None:
    """Whichever tensor is dropped, renamed or reshaped, the error names it and the layouts that were tried."""
    tensors = zeros(shapes(*released))
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
    assert name.removeprefix(layout_of(*released).prefix) in message
    assert all(f"{release} ({family})" in message for family, release in [*ALL, *((f, "own") for f in VARIANTS)])
    assert "\n" not in message


def test_foreign_network_is_named_by_its_tensors(tmp_path: Path) -> None:
    resnet = {f"layer{i}.0.conv1.weight": torch.ones(4, 4, 3, 3) for i in range(1, 5)}
    with pytest.raises(
        CheckpointError, match=r"no network known here: it holds 4 tensors \(layer1\.0\.conv1\.weight, .* 1 more\)"
    ):
        load_checkpoint(save(tmp_path, resnet))


@pytest.mark.parametrize("layout", all_key_maps(), ids=lambda layout: f"{layout.release}-{layout.family}")
def test_no_two_tensors_of_a_variant_share_a_name(layout: KeyMap) -> None:
    for entry in model_entries(layout.family):
        sources = layout.sources(entry.config, own_shapes(entry.name))
        theirs = [name for parts in sources.values() for name in parts]
        assert len(theirs) == len(set(theirs))


_stages = st.builds(
    StageConfig,
    channels=st.just(8),
    blocks=st.integers(1, 3),
    stride=st.just(1),
    dim=st.sampled_from([0, 8]),
    mlp_dim=st.just(8),
    depth=st.integers(1, 3),
)


@given(stages=st.lists(_stages, min_size=1, max_size=4))
def test_own_names_map_one_to_one_for_any_depth(stages: list[StageConfig]) -> None:
    """Stages of a shape that the releases know (one block before attention) never share a name between tensors."""
    stages = [msgspec.structs.replace(stage, blocks=1) if stage.dim else stage for stage in stages]
    config = MobileViTConfig(stages=tuple(stages), expansion=2, final_channels=8)
    spec = msgspec.structs.replace(model_spec("mobilevit_xxs"), config=msgspec.to_builtins(config))
    names = tensor_shapes(spec)
    for layout in all_key_maps():
        if layout.family == "mobilevit":
            theirs = [name for group in layout.sources(config, names).values() for name in group]
            assert len(theirs) == len(set(theirs))
