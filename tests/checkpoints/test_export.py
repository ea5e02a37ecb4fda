"""Export: what is loaded can be written back under a release's names, bit for bit, and its own code takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from golden.reference import ALL, attention_bias_idxs, eval_logits, release_weights, save_as_published, shapes
from golden.weights import images
from helpers import sampled, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.export import export_checkpoint
from mobilevit_sdk.checkpoints.export import release_weights as exported
from mobilevit_sdk.checkpoints.key_maps import OWN, all_key_maps
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.efficientvit import EfficientViTConfig
from mobilevit_sdk.models.efficientvit import StageConfig as EfficientViTStage
from mobilevit_sdk.models.mobilevit import MobileViTConfig, StageConfig
from mobilevit_sdk.models.mobilevitv2 import MobileViTv2Config
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, model_entries, model_spec
from mobilevit_sdk.models.tiny_vit import TinyViTConfig
from mobilevit_sdk.spec import ModelConfig

_SIZES = {"mobilevit": (64, 64), "mobilevitv2": (64, 64), "tiny_vit": (96, 80), "efficientvit": (224, 224)}

# Whose own modules stand in another order than their layers are called in: files of torch.save show ours there.
OTHER_ORDER = [("mobilevit", "transformers"), ("tiny_vit", "timm"), ("tiny_vit", "cream")]


def mobilevit(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def published(folder: Path, family: str, release: str) -> tuple[Checkpoint, dict[str, Tensor]]:
    """A checkpoint of a release, and what its file holds; EfficientViT's of Cream has its indices in it."""
    tensors = release_weights(family, release)
    if (family, release) == ("efficientvit", "cream"):
        tensors |= attention_bias_idxs(tensors)
    return load_checkpoint(save_as_published(folder, release, tensors)), tensors


def contents(path: Path, release: str) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    loaded = torch.load(path, weights_only=True)
    return loaded["model"] if release == "cream" else loaded


@pytest.mark.parametrize("suffix", sampled([".pth", ".safetensors"], ".pth"))
@pytest.mark.parametrize(("family", "release"), ALL)
def test_round_trip_is_bit_exact(tmp_path: Path, family: str, release: str, suffix: str) -> None:
    """Every name, type and value of the release's file, counts of training steps and derived indices included."""
    checkpoint, tensors = published(tmp_path, family, release)
    path = tmp_path / f"exported{suffix}"
    written = export_checkpoint(checkpoint, release, path)
    found = contents(path, release)
    assert written.tensors == len(found)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert any(int(tensor) == 7 for name, tensor in found.items() if name.endswith("num_batches_tracked"))
    again = load_checkpoint(path)
    assert again.layout == release
    assert again.spec.config == checkpoint.spec.config
    ours = checkpoint.model.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in again.model.state_dict().items())


@pytest.mark.parametrize(("family", "release"), [each for each in ALL if each not in OTHER_ORDER])
def test_names_stand_in_the_release_s_order(tmp_path: Path, family: str, release: str) -> None:
    checkpoint, _ = published(tmp_path, family, release)
    export_checkpoint(checkpoint, release, tmp_path / "exported.pth")
    found = contents(tmp_path / "exported.pth", release)
    assert [name for name in found if not name.endswith("attention_bias_idxs")] == list(shapes(family, release))


@pytest.mark.parametrize(
    ("family", "start", "end"),
    [
        ("mobilevit", "ml-cvnets", "timm"),
        ("mobilevit", "timm", "transformers"),
        ("mobilevitv2", "transformers", "timm"),
        ("tiny_vit", "cream", "timm"),
        ("tiny_vit", "timm", "cream"),
        ("efficientvit", "cream", "timm"),
        ("efficientvit", "timm", "cream"),
    ],
)
@torch.inference_mode()
def test_another_release_s_file_gives_the_answers_of_the_first(
    tmp_path: Path, family: str, start: str, end: str
) -> None:
    checkpoint, _ = published(tmp_path, family, start)
    export_checkpoint(checkpoint, end, tmp_path / "other.pth")
    other = load_checkpoint(tmp_path / "other.pth")
    size = _SIZES[family]
    expected = eval_logits(family, start, size)
    assert other.layout == end
    assert (other.model(images(size)) - expected).abs().max() <= 1e-5 * expected.abs().max()


def _mobilevit_stages(draw: st.DrawFn) -> tuple[StageConfig, ...]:
    stage = st.builds(
        StageConfig,
        channels=st.integers(1, 5),
        blocks=st.just(1),
        stride=st.integers(1, 2),
        dim=st.sampled_from([0, 4, 8]),
        mlp_dim=st.integers(1, 5),
        depth=st.integers(1, 3),
    )
    return tuple(draw(st.lists(stage, min_size=1, max_size=3)))


@st.composite
def small_networks(draw: st.DrawFn) -> tuple[str, ModelConfig]:
    """A family, and a config of it with widths, depths and windows of its own."""
    family = draw(st.sampled_from(["mobilevit", "mobilevitv2", "tiny_vit", "efficientvit"]))
    classes = draw(st.integers(1, 5))
    if family == "mobilevit":
        stages = _mobilevit_stages(draw)
        return family, MobileViTConfig(stages=stages, expansion=2, final_channels=3, num_classes=classes)
    if family == "mobilevitv2":
        return family, MobileViTv2Config(stages=_mobilevit_stages(draw), stem_channels=3, num_classes=classes)
    if family == "tiny_vit":
        head_dim, heads = draw(st.integers(1, 4)), draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
        dims = (2, *(head_dim * 2 * count for count in heads))
        windows = tuple(draw(st.integers(1, 3)) for _ in heads)
        depths = tuple(draw(st.integers(1, 2)) for _ in dims)
        config = TinyViTConfig(dims=dims, depths=depths, window_sizes=windows, head_dim=2 * head_dim)
        return family, msgspec.structs.replace(config, num_classes=classes)
    stages = tuple(
        EfficientViTStage(channels=8 * count, blocks=draw(st.integers(1, 2)), num_heads=count)
        for count in draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
    )
    windows = tuple(draw(st.integers(1, 3)) for _ in stages)
    distilled = draw(st.booleans())
    config = EfficientViTConfig(stages=stages, kernels=(3, 5, 1), window_sizes=windows, distilled=distilled)
    return family, msgspec.structs.replace(config, num_classes=classes)


@given(network=small_networks(), data=st.data(), seed=st.integers(0, 1000))
def test_every_layout_of_every_network_can_be_inverted(
    network: tuple[str, ModelConfig], data: st.DataObject, seed: int
) -> None:
    """Our tensors, put together again out of the release's by the rules of its layout, are those that went in."""
    family, config = network
    releases = [each for each in all_key_maps() if each.family == family and each.release != OWN]
    layout = data.draw(st.sampled_from(releases))
    entry = model_entries(family)[0]
    spec = msgspec.structs.replace(model_spec(entry.name), config=msgspec.to_builtins(config))
    model = randomize(build_model(spec), seed)
    theirs = layout.strip(exported(model, spec, layout))
    ours = model.state_dict()
    rows = layout.tensor_rows(config, ours)
    sources = layout.sources(config, ours)
    for name, parts in sources.items():
        whole = torch.cat([theirs.pop(part) for part in parts]) if len(parts) > 1 else theirs.pop(parts[0])
        assert torch.equal(whole[rows[name]] if name in rows else whole, ours[name])
    assert set(theirs) == (set(layout.derived(config)) if layout.stores_derived else set())


def test_weights_of_our_own_checkpoint_go_to_timm(tmp_path: Path) -> None:
    """Trained for ten classes here, taken there: names, classes and the line that loads them."""
    spec = model_spec("mobilevit_xxs", num_classes=10)
    save_checkpoint(randomize(build_model(spec), 0), spec, tmp_path / "mine.safetensors")
    written = export_checkpoint(load_checkpoint(tmp_path / "mine.safetensors"), "timm", tmp_path / "timm.pth")
    line = f"timm.create_model('mobilevit_xxs', num_classes=10, checkpoint_path='{tmp_path / 'timm.pth'}')"
    assert written.load_with == line
    assert contents(tmp_path / "timm.pth", "timm")["head.fc.weight"].shape == (10, 320)


def test_what_names_do_not_carry_is_said(tmp_path: Path) -> None:
    checkpoint, _ = published(tmp_path, "mobilevit", "ml-cvnets")
    written = export_checkpoint(checkpoint, "timm", tmp_path / "timm.pth")
    (note,) = written.notes
    assert note.startswith("prepare images as for this checkpoint: shorter side to 288 (bilinear), center 256x256, BGR")
    assert "timm would: shorter side to 284 (bicubic), center 256x256, RGB" in note
    assert export_checkpoint(checkpoint, "ml-cvnets", tmp_path / "same.pth").notes == ()


def test_other_windows_are_said_instead_of_a_line_that_would_fail(tmp_path: Path) -> None:
    family, release = "tiny_vit", "timm"
    published = save_as_published(tmp_path, release, release_weights(family, release))
    checkpoint = load_checkpoint(published, image_size=256, windows="scale")
    written = export_checkpoint(checkpoint, "timm", tmp_path / "timm.pth")
    assert written.load_with is None
    assert "tell timm what differs from tiny_vit_5m_224: window_sizes [8, 16, 8]" in written.notes


def test_widths_of_no_model_are_said(tmp_path: Path) -> None:
    model, spec = tiny_model()
    save_checkpoint(model, msgspec.structs.replace(spec, model="mine"), tmp_path / "mine.safetensors")
    written = export_checkpoint(load_checkpoint(tmp_path / "mine.safetensors"), "timm", tmp_path / "timm.safetensors")
    assert written.load_with is None
    assert written.notes[0] == "mine is not a model of this SDK: timm may have none with these widths"


@pytest.mark.parametrize(
    ("layout", "name", "complaint"),
    [
        ("cream", "x.pth", "mobilevit has no layout 'cream'; known: ml-cvnets, timm, transformers"),
        ("tim", "x.pth", "did you mean timm?"),
        (OWN, "x.pth", "has no layout 'own'"),
        ("timm", "x.ckpt", "must end in .safetensors, .pth, .pt, .bin"),
        ("timm", "file/x.pth", "cannot write"),
    ],
)
def test_wrong_requests_are_refused_and_leave_nothing(tmp_path: Path, layout: str, name: str, complaint: str) -> None:
    model, spec = tiny_model()
    checkpoint = Checkpoint(model, spec, OWN, "here")
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=complaint):
        export_checkpoint(checkpoint, layout, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_existing_file_stays_when_the_export_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, spec = tiny_model()
    path = tmp_path / "weights.pth"
    path.write_text("precious")

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RequestError, match="No space left on device"):
        export_checkpoint(Checkpoint(model, spec, OWN, "here"), "timm", path)
    assert path.read_text() == "precious"
    assert [each.name for each in tmp_path.iterdir()] == ["weights.pth"]


def test_command_line_writes_the_file_and_one_json_document(tmp_path: Path) -> None:
    tensors = {name: tensor.half() for name, tensor in release_weights("mobilevit", "transformers").items()}
    safetensors.torch.save_file(tensors, tmp_path / "half.safetensors")
    path = tmp_path / "timm.safetensors"
    result = mobilevit("export", tmp_path / "half.safetensors", "--layout", "timm", "--out", path, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["sha256"] == load_checkpoint(path).sha256
    assert document["bytes"] == path.stat().st_size
    assert (document["model"], document["num_classes"]) == ("mobilevit_xxs", 1000)
    assert document["tensors"] == len(contents(path, "timm"))
    assert document["load_with"].startswith("timm.create_model('mobilevit_xxs', num_classes=1000")
    assert document["notes"][0] == f"{len(tensors) - 32} float16 tensors became float32"
    assert all(f"note: {note}" in result.stderr for note in document["notes"])


def test_command_line_prints_the_line_for_timm(tmp_path: Path) -> None:
    save_as_published(tmp_path, "timm", release_weights("mobilevitv2", "timm"))
    result = mobilevit("export", tmp_path / "weights.pth", "--out", tmp_path / "new.pth")
    assert result.exit_code == 0, result.output
    line = f"timm.create_model('mobilevitv2_050', num_classes=1000, checkpoint_path='{tmp_path}/new.pth')"
    assert line in result.stdout
