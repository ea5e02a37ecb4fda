"""Training in simulated integers: the rounding and its gradients, exactness of what is not rounded, and recovery."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import tiny_model, tiny_spec
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_training import stop_after_a_step
from labeled_images import pictures, write_parquet
from PIL import Image
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.progress import Step
from mobilevit_sdk.quantization.simulation import observe_ranges, round_activations, round_weights, simulate
from mobilevit_sdk.training import QAT_RECIPE, QuantizationAware, Trainer, TrainingStep
from mobilevit_sdk.training.fake_quantization import FakeQuantization, fake_activations, fake_weights

CPU = torch.device("cpu")
ENDS = st.tuples(st.floats(-100, 0), st.floats(0.01, 100))


def _values(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(40, size=32))


# --- rounding


@settings(max_examples=4 * settings().max_examples)
@given(ends=ENDS, seed=st.integers(0, 1000))
def test_rounded_activations_stay_in_their_range_keep_zero_and_are_rounded_once(
    ends: tuple[float, float], seed: int
) -> None:
    low, high = ends
    scale = (high - low) / 255
    x = torch.cat((40 * _values(seed, 200), torch.linspace(low, high, 50), torch.zeros(1)))
    rounded = fake_activations(x, low, high)
    assert rounded[-1] == 0
    assert rounded.min() >= low - 0.51 * scale
    assert rounded.max() <= high + 0.51 * scale
    inside = (x >= low) & (x <= high)
    assert (rounded - x)[inside].abs().max() <= 1.01 * scale
    assert len(rounded.unique()) <= 256
    torch.testing.assert_close(fake_activations(rounded, low, high), rounded, atol=scale * 1e-3, rtol=1e-6)
    torch.testing.assert_close(rounded, round_activations(x, low, high), atol=scale * 1e-3, rtol=1e-6)


@given(ends=st.tuples(st.floats(-100, -4), st.floats(4, 100)))  # the outer levels lie half a step inside at most
def test_gradient_passes_the_rounding_but_not_the_clipping(ends: tuple[float, float]) -> None:
    low, high = ends
    margin = (high - low) / 255
    x = torch.tensor([low - margin, low - 9, high + margin, high + 9, 0.9 * high, 0.9 * low, 0.5 * high])
    x.requires_grad_()
    (fake_activations(x, low, high) * torch.arange(1.0, 8)).sum().backward()
    assert x.grad is not None
    assert x.grad[:4].tolist() == [0, 0, 0, 0]
    assert x.grad[4:].tolist() == [5, 6, 7]


@given(seed=st.integers(0, 1000), gains=st.lists(st.floats(0.01, 50), min_size=6, max_size=6))
def test_rounding_weights_before_a_batch_norm_is_folded_and_after_is_the_same(seed: int, gains: list[float]) -> None:
    weight, gain = _values(seed, 6, 4, 3, 3).double(), torch.tensor(gains, dtype=torch.float64).view(-1, 1, 1, 1)
    torch.testing.assert_close(fake_weights(gain * weight, 8, 32), gain * fake_weights(weight, 8, 32))


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_rounded_as_the_conversion_does_and_pass_every_gradient(bits: int) -> None:
    weight = _values(1, 8, 64).requires_grad_()
    rounded = fake_weights(weight, bits, 32)
    torch.testing.assert_close(rounded, round_weights(weight.detach(), bits, 32))
    assert 0 < (rounded - weight).abs().max() < 0.5
    (rounded * _values(2, 8, 64)).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, _values(2, 8, 64))


# --- a network


def _images(seed: int, count: int = 6) -> Tensor:
    return _values(seed, count, 3, 32, 32)


def _fake(model: nn.Module, **options: object) -> FakeQuantization:
    fake = FakeQuantization(model, QuantizationAware(**options))  # type: ignore[arg-type]
    fake.calibrate(model, [_images(0).to(next(model.parameters()).dtype)])
    return fake


@torch.no_grad()
def test_network_whose_layers_all_stay_in_float_answers_as_it_does() -> None:
    """What remains of the simulation are gains and biases of norms that act within their readers."""
    model, _ = tiny_model()
    fake = _fake(model.double(), quantization=QuantizationRecipe(float_modules=("*",)))
    assert not fake.paths
    assert fake.readers
    torch.testing.assert_close(fake(model, _images(1).double()), model(_images(1).double()), rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("kept", [("stem", "stages.1.*"), ("head",)])
def test_layers_that_the_recipe_keeps_are_neither_rounded_nor_listed(kept: tuple[str, ...]) -> None:
    model, _ = tiny_model()
    recipe = QuantizationRecipe(float_modules=kept)
    fake = _fake(model, quantization=recipe)
    every = {path for path, layer in model.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}
    assert set(fake.paths) == {path for path in every if not recipe.keeps_float(path)}
    assert 0 < len(fake.paths) < len(every)


@torch.no_grad()
def test_answers_are_those_of_the_phone_graph_in_simulated_integers() -> None:
    """Where a BatchNorm ends a block the phone graph rounds once more: weights and inputs are alike."""
    model, spec = tiny_model()
    recipe = QuantizationRecipe(ranges="minmax")
    graph = deploy(model, "litert-gpu", spec)
    mean, std = (torch.tensor(getattr(spec.preprocessing, name)).view(1, 3, 1, 1) for name in ("mean", "std"))
    pixels = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    x = (pixels.flip(1) - mean) / std
    ranges = observe_ranges(graph, recipe, [image[None].numpy() for image in pixels])
    in_integers = torch.cat([simulate(graph, recipe, "int8", ranges)(image[None]) for image in pixels])
    fake = FakeQuantization(model, QuantizationAware(quantization=recipe))
    fake.calibrate(model, [x])
    expected = model(x)
    mine, theirs = (float((each - expected).norm() / expected.norm()) for each in (fake(model, x), in_integers))
    assert theirs / 2 < mine < 1.5 * theirs


@torch.no_grad()
def test_what_layers_write_has_256_levels_behind_their_norm_and_scores_have_all() -> None:
    model, _ = tiny_model()
    fake = _fake(model)
    written: list[Tensor] = []
    hook = model.stem.activation.register_forward_pre_hook(lambda _, inputs: written.append(inputs[0]))
    scores = fake(model, _images(1, 80))
    hook.remove()
    assert fake.outputs[fake.paths.index("stem.conv")] == "stem.norm"
    assert 50 < len(written[0].unique()) <= 256
    assert len(scores.unique()) > 256


def test_network_is_left_as_it_was_and_its_gradients_are_alive() -> None:
    model, _ = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fake = _fake(model)
    plain = model(_images(1))
    scores = fake(model, _images(1))
    assert 0 < (scores - plain).abs().max() < 0.5 * plain.abs().max()
    scores.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    assert torch.equal(model(_images(1)), plain)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- a training


class _Hostile(nn.Module):
    """Two convolutions and a classifier; one channel between them is enlarged, and made small again by what reads it.

    In floating point that changes nothing. In integers this channel's range leaves few levels for the others.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.second = nn.Conv2d(8, 16, 5, stride=2, padding=2)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 5)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.second(self.first(x))).relu()
        return self.head(x.mean((2, 3)))

    @torch.no_grad()
    def plant(self) -> None:
        self.first.weight[0] *= self.factor
        self.first.bias[0] *= self.factor  # type: ignore[index]
        self.second.weight[:, 0] /= self.factor


def _top1(scores: Tensor, classes: Tensor) -> float:
    return float((scores.argmax(1) == classes).float().mean())


def test_network_that_integers_ruin_recovers_in_simulated_integers() -> None:
    encoded = pictures(40, size=32)
    pixels = [np.array(Image.open(io.BytesIO(image))) for image, _ in encoded]
    images = (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255 - 0.45) / 0.23
    classes = torch.tensor([label for _, label in encoded])
    torch.manual_seed(0)
    model = _Hostile(1000.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), classes).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    model.eval().plant()
    with torch.no_grad():
        taught = model(images)
        fake = FakeQuantization(model, QuantizationAware())
        fake.calibrate(model, [images])
        before = _top1(fake(model, images), classes)
    for _ in range(3):
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
        for _ in range(25):
            optimizer.zero_grad()
            mine, theirs = (scores.log_softmax(1) for scores in (fake(model, images), taught))
            nn.functional.kl_div(mine, theirs, log_target=True, reduction="batchmean").backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        fake.calibrate(model, [images])
    assert _top1(taught, classes) > 0.95
    assert before < 0.5
    with torch.no_grad():
        assert _top1(fake(model, images), classes) > 0.75


def test_batch_norm_statistics_stand_still_in_the_last_part(data: Path, tmp_path: Path) -> None:
    model, spec = tiny_model()
    dataset = open_dataset(data, labeled=True)
    recipe = msgspec.structs.replace(QAT_RECIPE, epochs=1, batch_size=8)
    teacher = Checkpoint(model, spec, "own", "tiny")
    trainer = Trainer(model, spec, recipe, dataset, dataset, tmp_path, device=CPU, teacher=teacher)
    seen: list[Tensor] = []

    def look(step: Step) -> None:
        if isinstance(step, TrainingStep):
            seen.append(model.stem.norm.running_mean.clone())

    trainer.progress = look
    trainer.run()
    changed = [not torch.equal(a, b) for a, b in itertools.pairwise(seen)]
    assert len(seen) == 5
    assert changed == [True, True, False, False]


def test_aware_training_goes_on_bit_for_bit_and_ends_in_an_ordinary_checkpoint(data: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.safetensors"
    save_checkpoint(*tiny_model(), checkpoint)

    def run(out: Path, *options: str) -> dict:
        arguments = ["train", "--checkpoint", checkpoint, "--data", data, "--test-data", data, "--out", out, *options]
        result = CliRunner().invoke(main, [*map(str, arguments), "--threads", "1", "--device", "cpu", "--json"])
        assert result.exit_code == 0, result.stderr
        assert result.stderr.count("  integers ") == 1
        return json.loads(result.stdout)

    document = run(tmp_path / "out", "--qat", "--epochs", "1", "--batch-size", "16")
    assert document["quantized_top1"] is not None
    trained = load_checkpoint(tmp_path / "out" / "model.safetensors")
    assert trained.spec.provenance["recipe"]["quantization_aware"]["precision"] == "int8"
    assert trained.spec.provenance["simulated_integers_top1"] == round(document["quantized_top1"], 4)
    assert trained.spec.provenance["teacher"]["sha256"] == load_checkpoint(checkpoint).sha256
    assert trained.model.state_dict().keys() == load_checkpoint(checkpoint).model.state_dict().keys()

    teacher = load_checkpoint(checkpoint)
    recipe = msgspec.structs.replace(QAT_RECIPE, epochs=1, batch_size=16)
    dataset = open_dataset(data, labeled=True)
    for _ in range(2):
        model = load_checkpoint(checkpoint).model
        trainer = Trainer(model, tiny_spec(), recipe, dataset, dataset, tmp_path / "b", device=CPU, teacher=teacher)
        if not trainer.resumed:
            stop_after_a_step(trainer)
            trainer.run()
    trainer.run()
    resumed = load_checkpoint(tmp_path / "b" / "model.safetensors").model.state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in trained.model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--qat"], "prepares a trained network: give --checkpoint"),
        (["--quantization", "a.json"], "says which layers --qat quantizes"),
        (["--qat", "--checkpoint", "a.safetensors", "--quantization", "none.json"], "none.json cannot be read"),
    ],
)
def test_wrong_options_are_refused(data: Path, tmp_path: Path, options: list[str], message: str) -> None:
    arguments = ["train", "--data", data, "--test-data", data, "--out", tmp_path / "out", *options]
    result = CliRunner().invoke(main, [*map(str, arguments), "--device", "cpu"])
    assert result.exit_code == 2
    assert message in result.stderr
