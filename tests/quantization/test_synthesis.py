"""Images from a network alone: the terms of the loss, what the images do in the network, and a file that is resumed."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import sampled, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from labeled_images import pictures, write_parquet
from PIL import Image
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import crop_image, open_dataset, to_model_input
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.random_weights import condition_weights
from mobilevit_sdk.models.registry import model_entries, model_spec, spec_at_size
from mobilevit_sdk.quantization.synthesis import (
    SynthesisOptions,
    batch_count,
    batch_size,
    divergence_within_classes,
    moment_divergence,
    synthesize_batch,
    total_variation,
)
from mobilevit_sdk.quantization.synthetic_file import Synthesis, read_synthesis, recognized, synthesize

SMALLEST = {entry.family: entry.name for entry in reversed(model_entries()) if entry.family != "detr"}
QUICK = SynthesisOptions(images=12, batch_size=6, steps=4)


pytestmark = pytest.mark.usefixtures("one_thread")


def _real_images() -> Tensor:
    images = [np.array(Image.open(io.BytesIO(encoded)).crop((0, 0, 32, 32))) for encoded, _ in pictures(60)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def _tiny(**changes: object) -> Checkpoint:
    """A network whose BatchNorms remember striped pictures."""
    model, spec = tiny_model()
    condition_weights(model, to_model_input(_real_images(), spec.preprocessing))
    return Checkpoint(model, msgspec.structs.replace(spec, **changes), "own", "tiny")


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the terms of the loss


def test_total_variation_is_that_of_the_eight_neighbors() -> None:
    image = torch.tensor([[[[0.0, 3.0], [1.0, 7.0]]]])
    expected = math.sqrt(((9 + 36) / 2 + (1 + 16) / 2 + 49 + 4) / 4)
    assert total_variation(image).item() == pytest.approx(expected, rel=1e-5)
    assert total_variation(torch.full((2, 3, 8, 8), 0.3)).item() < 2e-4


@pytest.mark.parametrize("shape", [(4000, 3), (40, 3, 10, 10)])
def test_divergence_of_moments_is_that_of_two_normal_distributions(shape: tuple[int, ...]) -> None:
    norm = (nn.BatchNorm1d(3) if len(shape) == 2 else nn.BatchNorm2d(3)).eval()
    x = torch.randn(shape, generator=_generator(0))
    axes = [axis for axis in range(len(shape)) if axis != 1]
    x = (x - x.mean(axes, keepdim=True)) / x.std(axes, correction=0, keepdim=True)
    mine, known = ((1.0, 2.0), (0.5, 3.0)), ((1.0, 2.0), (-0.5, 6.0))  # mean and standard deviation
    scale = torch.tensor([2.0, 3.0, 1.0]).view(1, 3, *[1] * (len(shape) - 2))
    shift = torch.tensor([1.0, 0.5, 0.0]).view_as(scale)
    norm.running_mean = torch.tensor([1.0, -0.5, 0.0])
    norm.running_var = torch.tensor([4.0, 36.0, 1.0])
    (m, s), (k, t) = mine[1], known[1]
    expected = math.log(t / s) + (s**2 + (m - k) ** 2) / (2 * t**2) - 0.5  # of the second channel; the others agree
    assert moment_divergence(norm, x * scale + shift).item() == pytest.approx(expected / 3, rel=1e-4)


@given(seed=st.integers(0, 10_000), factor=st.floats(0.01, 100))
def test_divergence_within_classes_knows_no_scale(seed: int, factor: float) -> None:
    features = torch.randn(12, 5, generator=_generator(seed), dtype=torch.float64)
    classes = torch.arange(12) % 3
    for a, b in zip(
        divergence_within_classes(features, classes, 0.1),
        divergence_within_classes(factor * features, classes, 0.1),
        strict=True,
    ):
        assert a.item() == pytest.approx(b.item(), rel=1e-6, abs=1e-9)


def test_divergence_within_classes_of_four_points_on_a_line() -> None:
    features = torch.tensor([[0.0], [1.0], [4.0], [6.0]])
    classes = torch.tensor([0, 0, 1, 1])
    mean = (1 + 4 + 6 + 3 + 5 + 2) / 6
    easy, boundary = divergence_within_classes(features, classes, 0.2)
    assert easy.item() == pytest.approx((2 / (1 / mean) + 2 / (2 / mean)) / 4, rel=1e-2)
    apart = [max(0.0, (1 - 4) / mean + 0.2), (1 - 3) / mean + 0.2, (2 - 3) / mean + 0.2, (2 - 5) / mean + 0.2]
    assert boundary.item() == pytest.approx(sum(max(0.0, each) for each in apart) / 4, abs=1e-4)
    crossed = divergence_within_classes(features, torch.tensor([0, 1, 0, 1]), 0.2)[1]
    assert crossed > 10 * boundary + 0.1


@pytest.mark.parametrize("classes", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_where_no_class_has_a_pair_or_another_beside_it_there_is_no_boundary(classes: list[int]) -> None:
    features = torch.randn(4, 3, generator=_generator(0)).requires_grad_()
    terms = divergence_within_classes(features, torch.tensor(classes), 0.1)
    assert terms[1].item() == 0
    assert (terms[0].item() == 0) == (len(set(classes)) == 4)
    sum(terms).backward()  # type: ignore[union-attr]
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_near_duplicates_of_a_class_are_driven_apart() -> None:
    features = torch.tensor([[0.0, 0.0], [0.01, 0.0], [3.0, 0.0], [3.0, 2.0]], requires_grad=True)
    divergence_within_classes(features, torch.tensor([0, 0, 1, 1]), 0.1)[0].backward()
    assert features.grad is not None
    step = -features.grad
    assert step[0, 0] < 0 < step[1, 0]
    assert step[:2].abs().max() > 100 * step[2:].abs().max()


# --- images


def _norm_divergence(checkpoint: Checkpoint, images: Tensor) -> float:
    found: list[float] = []
    hooks = [
        layer.register_forward_pre_hook(lambda norm, inputs: found.append(moment_divergence(norm, inputs[0]).item()))
        for layer in checkpoint.model.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        checkpoint.model(to_model_input(images, checkpoint.spec.preprocessing))
    for hook in hooks:
        hook.remove()
    return float(np.mean(found))


def test_norms_see_what_they_remember_and_the_network_its_classes() -> None:
    checkpoint = _tiny()
    images, classes = synthesize_batch(
        checkpoint.model, checkpoint.spec, SynthesisOptions(images=30, steps=60, learning_rate=0.1), 0
    )
    noise = (0.5 + 0.25 * torch.randn(30, 3, 32, 32, generator=_generator(0))).clamp(0, 1).mul(255).byte()
    assert _norm_divergence(checkpoint, images) < 0.5 * _norm_divergence(checkpoint, noise)
    scores = checkpoint.model(to_model_input(images, checkpoint.spec.preprocessing))
    assert (scores.argmax(1) == classes).float().mean() > 0.6
    assert sorted(set(classes.tolist())) == [0, 1, 2, 3, 4]


def test_batches_depend_on_the_seed_and_their_index_alone_and_leave_the_network_alone() -> None:
    checkpoint = _tiny()
    before = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
    first, _ = synthesize_batch(checkpoint.model, checkpoint.spec, QUICK, 0)
    torch.rand(7)
    second, _ = synthesize_batch(checkpoint.model, checkpoint.spec, QUICK, 1)
    again, _ = synthesize_batch(checkpoint.model, checkpoint.spec, QUICK, 0)
    other, _ = synthesize_batch(checkpoint.model, checkpoint.spec, msgspec.structs.replace(QUICK, seed=1), 0)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    assert all(torch.equal(value, before[name]) for name, value in checkpoint.model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in checkpoint.model.parameters())
    assert not any(layer._forward_pre_hooks for layer in checkpoint.model.modules())


@pytest.mark.parametrize(("images", "size"), [(128, 64), (130, 64), (2, 64), (7, 2)])
def test_batches_share_the_images_evenly(images: int, size: int) -> None:
    options = SynthesisOptions(images=images, batch_size=size)
    sizes = [batch_size(options, index) for index in range(batch_count(options))]
    assert sum(sizes) == images
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("name", sampled(sorted(SMALLEST.values()), SMALLEST["mobilevit"], SMALLEST["vit"]))
def test_every_family_makes_images_that_lower_the_loss(name: str) -> None:
    checkpoint = random_checkpoint(spec_at_size(model_spec(name, num_classes=4), 64, 64), 0)
    losses: list[float] = []
    images, _ = synthesize_batch(
        checkpoint.model,
        checkpoint.spec,
        SynthesisOptions(images=8, steps=16),
        0,
        lambda _, loss: losses.append(loss),
    )
    assert images.shape == (8, 3, 64, 64)
    assert min(losses[8:]) < 0.8 * losses[0]


# --- the file


def _pixels(path: Path, checkpoint: Checkpoint) -> list[np.ndarray]:
    data = open_dataset(path, labeled=True)
    return [crop_image(data.image(row), checkpoint.spec.preprocessing) for row in range(len(data))]


@pytest.mark.parametrize(
    "changes",
    [{}, {"resize_size": 39}, {"image_size": (32, 40), "resize_size": 36}, {"resize_mode": "squash"}],
    ids=str,
)
def test_file_holds_exactly_the_pixels_that_were_optimized(tmp_path: Path, changes: dict) -> None:
    checkpoint = _tiny()
    spec = msgspec.structs.replace(
        checkpoint.spec, preprocessing=msgspec.structs.replace(checkpoint.spec.preprocessing, **changes)
    )
    checkpoint = Checkpoint(checkpoint.model, spec, "own", "tiny")
    synthesize(checkpoint, tmp_path / "a.parquet", QUICK)
    batches = [synthesize_batch(checkpoint.model, spec, QUICK, index) for index in (0, 1)]
    data = open_dataset(tmp_path / "a.parquet", labeled=True)
    assert data.class_names == spec.labels
    assert data.labels == [label for _, classes in batches for label in classes.tolist()]
    for mine, theirs in zip(
        _pixels(tmp_path / "a.parquet", checkpoint), torch.cat([b[0] for b in batches]), strict=True
    ):
        assert np.array_equal(mine, theirs.numpy())


def test_interrupted_synthesis_goes_on_after_the_last_whole_batch(tmp_path: Path) -> None:
    checkpoint = _tiny()
    synthesize(checkpoint, tmp_path / "whole.parquet", QUICK)
    out = tmp_path / "stopped.parquet"

    def stop_in_the_second_batch(progress: object) -> None:
        if progress.done == 6:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(checkpoint, out, QUICK, progress=stop_in_the_second_batch)
    assert not out.exists()
    seen: list[int] = []
    synthesize(checkpoint, out, QUICK, progress=lambda step: seen.append(step.done))
    assert seen == [5, 6, 7, 8]
    assert all(
        np.array_equal(a, b)
        for a, b in zip(_pixels(out, checkpoint), _pixels(tmp_path / "whole.parquet", checkpoint), strict=True)
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{suffix}" for name in ("whole", "stopped") for suffix in ("parquet", "png")
    }


def test_same_synthesis_is_kept_and_another_replaces_it(tmp_path: Path) -> None:
    checkpoint, out = _tiny(), tmp_path / "a.parquet"
    made = synthesize(checkpoint, out, QUICK)
    assert read_synthesis(out) == made
    before = out.stat().st_mtime_ns
    synthesize(checkpoint, out, QUICK, progress=lambda _: pytest.fail("a step was made"))
    assert out.stat().st_mtime_ns == before
    other = msgspec.structs.replace(QUICK, seed=5)
    synthesize(checkpoint, out, other)
    again = read_synthesis(out)
    assert again is not None
    assert (again.options, again.network_sha256) == (other, made.network_sha256)
    with torch.no_grad():
        next(checkpoint.model.parameters()).add_(0.1)
    assert synthesize(checkpoint, out, other).network_sha256 != made.network_sha256


def test_images_of_others_are_never_overwritten(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "precious.parquet", pictures(3))
    before = path.read_bytes()
    assert read_synthesis(path) is None
    with pytest.raises(RequestError, match="holds no synthesized images; give another `out`"):
        synthesize(_tiny(), path, QUICK)
    assert path.read_bytes() == before
    with pytest.raises(RequestError, match=r"ends in \.parquet"):
        synthesize(_tiny(), tmp_path / "a.png", QUICK)


def test_sheet_shows_images_of_every_class(tmp_path: Path) -> None:
    synthesize(_tiny(), tmp_path / "a.parquet", QUICK)
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (10 * 128, 2 * 142)
        cells = [
            sheet.crop((x * 128, y * 142, x * 128 + 126, y * 142 + 126)).tobytes() for y in (0, 1) for x in range(10)
        ]
    assert len(set(cells[:12])) == 12
    assert set(cells[12:]) == {b"\xff" * 126 * 126 * 3}


def test_command_line_writes_file_and_sheet(tmp_path: Path) -> None:
    checkpoint = _tiny()
    save_checkpoint(checkpoint.model, checkpoint.spec, tmp_path / "tiny.safetensors")
    out = tmp_path / "images.parquet"
    arguments = ["synthesize", tmp_path / "tiny.safetensors", "--out", out, "--images", 8, "--steps", 3, "--seed", 2]
    result = CliRunner().invoke(main, [*map(str, arguments), "--threads", "1", "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["path"] == str(out)
    assert Path(document["sheet"]).is_file()
    assert document["recognized"] == recognized(checkpoint, out)
    found = read_synthesis(out)
    assert isinstance(found, Synthesis)
    assert found.options == SynthesisOptions(images=8, steps=3, seed=2)
    assert len(open_dataset(out, labeled=True)) == 8
