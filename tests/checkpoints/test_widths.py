"""Networks as wide as none that is registered: the shapes of a file tell, or it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from golden.reference import ALL, release_weights
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.export import release_weights as as_released
from mobilevit_sdk.checkpoints.identify import match_release
from mobilevit_sdk.checkpoints.inspection import inspect_checkpoint
from mobilevit_sdk.checkpoints.key_maps import KeyMap, all_key_maps
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.meta_model import build_bare_on_meta
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, model_entries, model_entry, model_spec
from mobilevit_sdk.spec import ModelSpec

RELEASES = [each for each in all_key_maps() if (each.family, each.release) in [*ALL, ("vit", "timm")]]


def key_map_of(family: str, release: str) -> KeyMap:
    return next(each for each in all_key_maps() if (each.family, each.release) == (family, release))


def released_shapes(spec: ModelSpec, key_map: KeyMap) -> dict[str, Tensor]:
    """Names and shapes of the network under the release's names."""
    config: Any = msgspec.convert(spec.config, type(model_entry(spec.model).config))
    shapes = dict(build_bare_on_meta(spec).state_dict())
    found = {}
    for name, theirs in key_map.sources(config, shapes).items():
        prefix = "" if name.startswith(f"{key_map.classifier}.") else key_map.prefix
        parts = shapes[name].chunk(len(theirs)) if len(theirs) > 1 else (shapes[name],)
        found |= {
            prefix + each: torch.empty(part.shape, device="meta") for each, part in zip(theirs, parts, strict=True)
        }
    return found


@st.composite
def widths(draw: st.DrawFn) -> ModelSpec:
    """A network with the depths of a registered one and widths of its own."""
    entry = draw(
        st.sampled_from([each for each in model_entries() if each.family not in ("dearkd", "deepvit", "detr", "navit")])
    )
    config: Any = entry.config

    def wide(multiple: int, most: int = 12) -> int:
        return multiple * draw(st.integers(1, most))

    if entry.family in ("mobilevit", "mobilevitv2"):
        stages = tuple(
            msgspec.structs.replace(
                stage, channels=wide(4), dim=wide(4) if stage.dim else 0, mlp_dim=wide(4) if stage.dim else 0
            )
            for stage in config.stages
        )
        changes = {"stages": stages, "stem_channels": wide(4), "expansion": wide(1, 6), "in_channels": wide(1, 4)}
        changes |= {"final_channels": wide(8)} if entry.family == "mobilevit" else {}
    elif entry.family == "tiny_vit":
        head = wide(4, 8)
        changes = {"dims": (wide(4), *(wide(head) for _ in config.dims[1:])), "head_dim": head, "mlp_ratio": wide(1, 5)}
        changes |= {"expansion": wide(1, 6), "in_channels": wide(1, 4)}
    elif entry.family == "vit":
        heads = draw(st.integers(1, 4))
        changes = {"dim": 64 * heads, "num_heads": heads, "mlp_ratio": wide(1, 5), "in_channels": wide(1, 4)}
    else:
        stages = []
        for stage in config.stages:
            heads = draw(st.integers(1, stage.num_heads))
            stages.append(msgspec.structs.replace(stage, channels=8 * heads * draw(st.integers(1, 4)), num_heads=heads))
        kernels = tuple(draw(st.sampled_from([3, 5, 7, 9])) for _ in config.kernels)
        changes = {"stages": tuple(stages), "kernels": kernels, "key_dim": wide(4, 6), "in_channels": wide(1, 4)}
    return model_spec(entry.name, **changes, num_classes=7)


@given(spec=widths(), data=st.data())
def test_widths_are_read_from_the_shapes(spec: ModelSpec, data: st.DataObject) -> None:
    key_map = data.draw(st.sampled_from([each for each in RELEASES if each.family == spec.family]))
    tensors = released_shapes(spec, key_map)
    match = match_release(tensors, None, "file")
    assert match.fits
    assert match.key_map == key_map
    config = dict(spec.config)
    if spec.family == "efficientvit":  # those of heads that no stage has are in no tensor
        heads = max(stage["num_heads"] for stage in config["stages"])
        assert match.spec.config["kernels"][:heads] == config["kernels"][:heads]
        config["kernels"] = match.spec.config["kernels"]
    assert match.spec.config == config


@given(spec=widths(), data=st.data())
def test_one_tensor_of_another_width_is_refused(spec: ModelSpec, data: st.DataObject) -> None:
    key_map = data.draw(st.sampled_from([each for each in RELEASES if each.family == spec.family]))
    tensors = released_shapes(spec, key_map)
    norms = [name for name, tensor in tensors.items() if name.endswith(("norm1.weight", "bn.bias", "running_mean"))]
    name = data.draw(st.sampled_from(norms or [name for name, tensor in tensors.items() if tensor.ndim == 1]))
    tensors[name] = torch.empty(len(tensors[name]) + 1, device="meta")
    with pytest.raises(CheckpointError, match="does not fit"):
        match_release(tensors, None, "file")


def test_mobilevitv2_of_width_five_eighths_is_loaded_and_said(tmp_path: Path) -> None:
    """As timm builds it; the widths of transformers and ml-cvnets are rounded to multiples of 8 and 16."""
    spec = model_spec("mobilevitv2_050", num_classes=5)
    stages = [
        stage | {key: stage[key] * 5 // 4 for key in ("channels", "dim", "mlp_dim")} for stage in spec.config["stages"]
    ]
    spec = msgspec.structs.replace(spec, config=spec.config | {"stages": stages, "stem_channels": 20})
    model = randomize(build_model(spec), 0).eval()
    path = tmp_path / "narrow.pth"
    torch.save(as_released(model, spec, key_map_of("mobilevitv2", "timm")), path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.spec.model == "mobilevitv2_050"
    assert checkpoint.spec.config == spec.config
    (note,) = checkpoint.notes
    assert note.startswith(
        "widths are read from the shapes, those of mobilevitv2_050 in brackets: stages.0.channels 40 (32)"
    )
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(checkpoint.model(images), model(images))


def gray(tmp_path: Path, family: str, release: str, channels: int = 1) -> tuple[Path, Checkpoint, Tensor]:
    """A file of the release whose first convolution has so many channels, and the network before that."""
    tensors = release_weights(family, release)
    plain = tmp_path / "rgb.pth"
    torch.save(tensors, plain)
    first = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    kernel = tensors[first][:, :1].repeat(1, channels, 1, 1)
    path = tmp_path / "gray.pth"
    torch.save(tensors | {first: kernel}, path)
    return path, load_checkpoint(plain), kernel


@pytest.mark.parametrize(
    ("family", "release"), [("mobilevit", "timm"), ("mobilevit", "ml-cvnets"), ("tiny_vit", "timm")]
)
@torch.inference_mode()
def test_a_network_of_one_channel_answers_to_rgb_as_to_gray(tmp_path: Path, family: str, release: str) -> None:
    """Held against the network of three channels, to which one gray channel is given where the kernel is."""
    path, plain, kernel = gray(tmp_path, family, release)
    checkpoint = load_checkpoint(path)
    assert "in_channels is 1, in " in " ".join(checkpoint.notes)
    assert "its first convolution was widened to take RGB" in " ".join(checkpoint.notes)
    assert checkpoint.spec.config["in_channels"] == 3
    side = 64 if family == "mobilevit" else 224
    pixels = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    luma = (pixels.double() * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).float()
    mean, std = (sum(each) / 3 for each in (plain.spec.preprocessing.mean, plain.spec.preprocessing.std))
    stem = next(module for module in plain.model.modules() if isinstance(module, torch.nn.Conv2d))
    stem.weight.copy_(torch.cat((kernel, torch.zeros_like(kernel), torch.zeros_like(kernel)), dim=1))
    expected = plain.model(((luma / 255 - mean) / std).expand(1, 3, side, side))
    found = checkpoint.model(to_model_input(pixels, checkpoint.spec.preprocessing))
    assert (expected - expected.mean()).abs().max() > 0.1
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_inspect_counts_what_is_in_the_file(tmp_path: Path) -> None:
    path, plain, kernel = gray(tmp_path, "mobilevit", "timm")
    parameters = sum(parameter.numel() for parameter in plain.model.parameters())
    found = inspect_checkpoint(path)
    assert (found.parameters, found.options) == (parameters - 2 * kernel.numel(), {"in_channels": 1})


def test_other_numbers_of_channels_are_refused(tmp_path: Path) -> None:
    path, *_ = gray(tmp_path, "mobilevit", "timm", channels=4)
    with pytest.raises(CheckpointError, match="takes images of 4 channels; this SDK feeds RGB or gray ones"):
        load_checkpoint(path)


def test_a_model_that_is_named_has_its_own_widths(tmp_path: Path) -> None:
    tensors = released_shapes(model_spec("mobilevitv2_050", stem_channels=20), key_map_of("mobilevitv2", "timm"))
    assert match_release(tensors, None, "file").options == {"stem_channels": 20}
    with pytest.raises(CheckpointError, match="holds mobilevitv2_050, not mobilevitv2_075"):
        match_release(tensors, "mobilevitv2_075", "file")
    with pytest.raises(CheckpointError, match="like mobilevitv2_050, with widths of its own; name no model"):
        match_release(tensors, "mobilevitv2_050", "file")
    path, *_ = gray(tmp_path, "mobilevit", "timm")
    assert load_checkpoint(path, model="mobilevit_xxs").spec.model == "mobilevit_xxs"
