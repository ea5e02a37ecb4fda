"""Image size and window size are two things: a network keeps the windows of its file unless it is asked to scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from golden.reference import eval_logits, release_weights, resized_logits, save_as_published
from golden.weights import images
from labeled_images import pictures, write_folder
from tiny_networks import tiny_model

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.registry import spec_at_size
from mobilevit_sdk.models.resize import fit_network, resize_network
from mobilevit_sdk.parity.images import checkpoint_of
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.spec import ModelSpec, Origin
from mobilevit_sdk.training.start import network_for_training, spec_for_training

SIZE = 256, 256


def windows(spec: ModelSpec) -> list[int]:
    return list(spec.config["window_sizes"])


@pytest.fixture(scope="module")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TinyViT-5M as timm publishes it: windows of 7, 14, 7."""
    return save_as_published(tmp_path_factory.mktemp("timm"), "timm", release_weights("tiny_vit", "timm"))


@torch.inference_mode()
def test_windows_stay_as_in_timm_and_scale_as_in_cream(tiny_vit: Path) -> None:
    kept = load_checkpoint(tiny_vit, image_size=SIZE)
    assert windows(kept.spec) == [7, 14, 7]
    note = "windows stay 7, 14, 7 positions at 256x256 pixels, as in the file; `windows=scale` brings them to the image"
    assert kept.notes == (note,)
    expected = eval_logits("tiny_vit", "timm", SIZE)
    assert (kept.model(images(SIZE)) - expected).abs().max() <= 1e-5 * expected.abs().max()
    scaled = load_checkpoint(tiny_vit, image_size=256, windows="scale")
    assert windows(scaled.spec) == [8, 16, 8]
    expected = resized_logits("tiny_vit", SIZE)
    assert (scaled.model(images(SIZE, 1)) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.fixture
def fine_tuned(tmp_path: Path) -> Path:
    """A checkpoint of ours whose windows are not those that an image of its size would be given."""
    model, spec = tiny_model("tiny_vit", 64)
    wider = spec_at_size(spec, 96, 96, "keep")
    assert windows(wider) == windows(spec) != windows(spec_at_size(spec, 96, 96, "scale"))
    save_checkpoint(model, wider, tmp_path / "fine_tuned.safetensors")
    return tmp_path / "fine_tuned.safetensors"


def test_its_own_size_changes_nothing(fine_tuned: Path) -> None:
    stored = load_checkpoint(fine_tuned)
    asked = load_checkpoint(fine_tuned, image_size=96)
    assert asked.spec.config == stored.spec.config
    assert resize_network(stored.model, stored.spec, 96, 96) == (stored.model, stored.spec)
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(asked.model(image), stored.model(image))


@pytest.mark.parametrize("choice", ["keep", "scale"])
def test_the_reference_of_an_artifact_has_the_artifact_s_windows(
    fine_tuned: Path, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = load_checkpoint(fine_tuned, image_size=128, windows=choice)

    class Manifest(msgspec.Struct):
        spec: ModelSpec
        origin: Origin

    artifact = Artifact(fine_tuned, Manifest(made.spec, made.origin))  # type: ignore[arg-type]
    found = checkpoint_of(artifact, None)
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert found.spec == made.spec
    assert torch.equal(found.model(image), made.model(image))


def test_a_training_starts_from_the_windows_of_its_checkpoint(fine_tuned: Path, tmp_path: Path) -> None:
    data = open_dataset(write_folder(tmp_path / "data", pictures(10)), labeled=True)
    initial = load_checkpoint(fine_tuned)
    for size, choice, expected in (
        (None, None, windows(initial.spec)),
        (128, None, windows(initial.spec)),
        (128, "scale", windows(spec_at_size(initial.spec, 128, 128, "scale"))),
    ):
        spec = spec_for_training("tiny_vit", initial, data, size, choice)
        assert windows(spec) == expected
        trained = network_for_training(spec, Recipe(), initial).state_dict()
        fitted = fit_network(initial.model, initial.spec, spec_at_size(initial.spec, 128, 128, choice or "keep"))
        for name, value in fitted.state_dict().items():
            assert name.startswith("head.") or torch.equal(trained[name], value), name


def test_networks_whose_windows_follow_their_maps_scale_unless_told_otherwise() -> None:
    model, spec = tiny_model("efficientvit", 128)
    assert windows(spec) == [3, 3]
    small = spec_at_size(spec, 64, 64)
    assert windows(small) == [3, 2]
    assert windows(spec_at_size(small, 128, 128)) == [3, 3]
    assert windows(spec_at_size(small, 128, 128, "keep")) == [3, 2]
    with pytest.raises(RequestError, match=r"images of 64x64 fill windows of .*, not the network's"):
        spec_at_size(spec, 64, 64, "keep")
    smaller, smaller_spec = resize_network(model, spec, 64, 64)
    assert smaller(torch.rand(1, 3, 64, 64)).isfinite().all()
    assert smaller_spec.preprocessing.image_size == (64, 64)


@pytest.mark.parametrize(
    ("family", "own", "size", "choice", "note"),
    [
        (
            "tiny_vit",
            64,
            96,
            None,
            "windows stay 3, 3 positions at 96x96 pixels, as in the file; `windows=scale` brings",
        ),
        ("tiny_vit", 64, 96, "keep", "windows stay 3, 3 positions at 96x96 pixels, as in the file"),
        ("tiny_vit", 64, 96, "scale", "windows of 3, 3 positions became 6, 6 at 96x96 pixels, and position biases"),
        ("tiny_vit", 64, 64, None, None),
        ("efficientvit", 128, 64, None, "windows of 3, 3 positions became 3, 2 at 64x64 pixels, and position biases"),
        ("efficientvit", 128, 256, "keep", "windows stay 3, 3 positions at 256x256 pixels, as in the file"),
        ("efficientvit", 128, 256, None, None),
        ("mobilevit", 64, 96, "keep", "`windows` has no effect: mobilevit_xxs has none"),
        ("mobilevit", 64, 96, None, None),
    ],
)
def test_what_becomes_of_windows_is_said(family: str, own: int, size: int, choice: Any, note: str | None) -> None:
    _, notes = Preparation(image_size=(size, size), windows=choice).apply(tiny_model(family, own)[1])
    assert len(notes) == (note is not None)
    assert not note or notes[0].startswith(note)
