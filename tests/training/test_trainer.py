"""The training loop: resumable to the bit, seeded, covering the data, learning, and refusing what cannot work."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from helpers import REPOSITORY, randomize, tiny_model, tiny_spec
from killed_training import RECIPE, make_trainer
from labeled_images import pictures, write_columns, write_folder, write_parquet
from PIL import Image
from safetensors import safe_open

from mobilevit_sdk.charts import SKY
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.progress import Step
from mobilevit_sdk.training import EpochResult, Recipe, Trainer, TrainingStep
from mobilevit_sdk.training.curves import plot_curves
from mobilevit_sdk.training.ema import ExponentialMovingAverage
from mobilevit_sdk.training.pixels import ImageCache
from mobilevit_sdk.training.schedule import plan_epoch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(45))


def _measured(out: Path) -> list[dict]:
    """The metrics without those that depend on the clock."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def _state(out: Path) -> dict:
    return torch.load(out / "state.pt", weights_only=True)


def _checkpoint(out: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Header and weights, to be compared bit for bit (the order of the header's keys is not settled)."""
    with safe_open(out / "model.safetensors", framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    torch.set_num_threads(1)
    assert make_trainer(data, out).run() is not None
    return out


@pytest.mark.parametrize("steps", [1, 8], ids=["in the first epoch", "in a later epoch"])
def test_training_that_was_killed_ends_bit_for_bit_as_one_that_was_not(
    data: Path, uninterrupted: Path, tmp_path: Path, steps: int
) -> None:
    script = REPOSITORY / "tests" / "support" / "killed_training.py"
    killed = subprocess.run(
        [sys.executable, script, data, tmp_path, str(steps)], capture_output=True, text=True, timeout=1800, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = make_trainer(data, tmp_path)
    assert resumed.resumed
    assert resumed.steps_done == steps
    assert resumed.next_step > 0, "the kill was meant to come in the middle of an epoch"
    resumed.run()
    assert _checkpoint(tmp_path) == _checkpoint(uninterrupted)
    assert _measured(tmp_path) == _measured(uninterrupted)
    mine, theirs = _state(tmp_path), _state(uninterrupted)
    for part in ("model", "average"):
        assert all(torch.equal(value, theirs[part][name]) for name, value in mine[part].items())
    assert mine["position"] == theirs["position"]
    assert not list(tmp_path.glob(".*")), "a partial file was left"


def test_stopped_training_goes_on_where_it_stopped(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    seen = []

    def stop_in_the_second_epoch(step: Step) -> None:
        if isinstance(step, TrainingStep):
            seen.append(step)
            if len(seen) == 6:
                trainer.stop()

    trainer = make_trainer(data, tmp_path, progress=stop_in_the_second_epoch)
    assert trainer.run() is None
    assert len(seen) == 6
    make_trainer(data, tmp_path).run()
    assert _checkpoint(tmp_path) == _checkpoint(uninterrupted)


def test_complete_training_is_not_trained_again(data: Path, uninterrupted: Path) -> None:
    before = (uninterrupted / "model.safetensors").stat().st_mtime_ns
    steps: list[Step] = []
    result = make_trainer(data, uninterrupted, progress=steps.append).run()
    assert not any(isinstance(step, TrainingStep) for step in steps)
    assert result == make_trainer(data, uninterrupted).history()[-1]
    assert (uninterrupted / "model.safetensors").stat().st_mtime_ns == before


def test_seed_decides_the_weights(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    for name, seed in (("same", 0), ("other", 1)):
        make_trainer(data, tmp_path / name, msgspec.structs.replace(RECIPE, seed=seed)).run()
    mine, same, other = (_state(out)["average"] for out in (uninterrupted, tmp_path / "same", tmp_path / "other"))
    assert all(torch.equal(value, same[name]) for name, value in mine.items())
    assert not all(torch.equal(value, other[name]) for name, value in mine.items())


def test_every_epoch_shows_each_image_once(data: Path, tmp_path: Path) -> None:
    trainer = make_trainer(data, tmp_path, msgspec.structs.replace(RECIPE, epochs=6))
    seen: list[list[int]] = []
    batches = trainer.feed.batches
    trainer.feed.batches = lambda plan: seen.append([row for rows in plan for row in rows]) or batches(plan)  # type: ignore[method-assign]
    trainer.run()
    assert len(seen) == 6
    assert all(len(set(rows)) == len(rows) >= 44 for rows in seen), "of 45, one may be left over as a single"
    assert any(len(rows) == 45 for rows in seen)
    assert all(a != b for a, b in itertools.combinations(seen, 2))


def test_a_single_image_that_is_left_over_is_skipped() -> None:
    steps = plan_epoch(Recipe(epochs=1, batch_size=8), 0, images=9, image_size=40)
    assert [(step.start, step.stop) for step in steps] == [(0, 8)]


def test_plan_follows_the_recipe() -> None:
    recipe = Recipe(epochs=10, batch_size=4, sizes=(32, 40, 64), size_ramp=0.5, final_share=0.2)
    sizes = []
    for epoch in range(10):
        steps = plan_epoch(recipe, epoch, images=45, image_size=40)
        assert steps == plan_epoch(recipe, epoch, images=45, image_size=40)
        assert all(step.stop - step.start == recipe.batch_size_at(step.size, 40) for step in steps[:-1])
        sizes.append({step.size for step in steps})
    assert sizes[0] == {32}
    assert sizes[2] <= {32, 40}
    assert set().union(*sizes[4:8]) == {32, 40, 64}
    assert sizes[8] == sizes[9] == {40}


def test_learning_rate_follows_the_schedule(data: Path, tmp_path: Path) -> None:
    rates = []

    def look(step: Step) -> None:
        if isinstance(step, TrainingStep):
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    trainer = make_trainer(data, tmp_path, Recipe(epochs=2, batch_size=16, warmup_epochs=1), look)
    trainer.run()
    starts = [epoch + start / 45 for epoch in (0, 1) for start in (0, 16, 32)]
    assert rates == pytest.approx([trainer.recipe.learning_rate_at(start / 2) for start in starts])


def test_average_equals_its_formula() -> None:
    model, _ = tiny_model(seed=0)
    average = ExponentialMovingAverage(model, decay=0.3)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(5):
        randomize(model, seed=step + 1)
        model.stem.norm.num_batches_tracked.fill_(7 * step)
        average.update(model, step)
        decay = min(0.3, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            keep = decay if value.is_floating_point() else 0
            expected[name] = keep * expected[name] + (1 - keep) * value
    assert average.model.stem.norm.num_batches_tracked == 28
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value, expected[name].to(value.dtype), atol=1e-6, rtol=1e-5)
    assert not average.model.training


def test_training_learns_one_small_batch(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", pictures(10) * 10)
    recipe = Recipe(
        epochs=6,
        batch_size=10,
        learning_rate=0.02,
        label_smoothing=0,
        augment_ops=0,
        crop_scale=(1.0, 1.0),
        mix_probability=0,
        ema_decay=0.5,
    )
    torch.manual_seed(0)
    dataset = open_dataset(path, labeled=True)
    spec = tiny_spec(image_size=32)
    out = tmp_path / "out"
    trainer = Trainer(build_model(spec), spec, recipe, dataset, dataset, out, device=torch.device("cpu"))
    result = trainer.run()
    history = trainer.history()
    assert history[0].loss > 1.4
    assert history[-1].loss < 0.6
    assert result is not None
    assert result.top1 == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_parameter_is_trained(data: Path, tmp_path: Path, precision: str) -> None:
    trainer = make_trainer(data, tmp_path, Recipe(epochs=1, batch_size=45, precision=precision))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    for name, parameter in trainer.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        assert parameter.dtype == torch.float32
        assert not torch.equal(parameter, before[name]), name


def test_only_matrices_and_kernels_decay(data: Path, tmp_path: Path) -> None:
    trainer = make_trainer(data, tmp_path)
    decay = {id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        assert decay[id(parameter)] == (0.05 if parameter.ndim > 1 else 0), name


def test_checkpoint_header_tells_recipe_and_accuracy(uninterrupted: Path) -> None:
    spec = json.loads(_checkpoint(uninterrupted)[0]["mobilevit_sdk"])
    last = _measured(uninterrupted)[-1]
    assert spec["provenance"]["recipe"] == msgspec.to_builtins(RECIPE) | {"sizes": [32, 40], "crop_scale": [0.5, 1.0]}
    assert spec["provenance"]["top1"] == round(last["top1"], 4)
    assert spec["provenance"]["epochs_done"] == 3
    assert spec["provenance"]["data"] == "a.parquet"


def test_loss_that_is_no_number_ends_the_training(data: Path, tmp_path: Path) -> None:
    trainer = make_trainer(data, tmp_path, Recipe(epochs=2, batch_size=8, learning_rate=100.0, warmup_epochs=0))
    trainer.model.head.weight.data.fill_(float("inf"))
    with pytest.raises(RequestError, match=r"the loss is nan in epoch 1, step 0; lower the learning rate \(100\)"):
        trainer.run()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": {"epochs": 2}}, "its epochs is 3, not 2"),
        ({"recipe": {"sizes": ()}}, r"its sizes is \[32, 40\], not \[\]"),
        ({"count": 44}, "its training images differ"),
    ],
)
def test_folder_of_another_training_is_refused(uninterrupted: Path, tmp_path: Path, change: dict, message: str) -> None:
    data = write_parquet(tmp_path / "a.parquet", pictures(change.get("count", 45)))
    with pytest.raises(RequestError, match=f"holds another training.*{message}.*give another `out`"):
        make_trainer(data, uninterrupted, msgspec.structs.replace(RECIPE, **change.get("recipe", {})))


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04"])
def test_damaged_state_is_refused_and_left_alone(data: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pt is not a training state"):
        make_trainer(data, tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == content


def test_checkpoint_of_others_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(RequestError, match="holds a checkpoint that is not this training's"):
        make_trainer(data, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"precious"


def test_a_single_image_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds a single image"):
        make_trainer(write_parquet(tmp_path / "a.parquet", pictures(1)), tmp_path / "out")


def test_image_that_does_not_decode_is_named_before_the_training(tmp_path: Path) -> None:
    images = [{"bytes": encoded} for encoded, _ in pictures(300)]
    images[277]["bytes"] = images[277]["bytes"][:-300]
    path = write_columns(tmp_path / "a.parquet", {"image": images, "label": [0] * 300})
    with pytest.raises(RequestError, match="row 277 cannot be decoded"):
        make_trainer(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_decoded_for_each_batch_are_those_kept_in_memory(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(data, labeled=True)
    reported: list[Step] = []
    kept = ImageCache(dataset, (32, 32), progress=reported.append)
    monkeypatch.setattr("mobilevit_sdk.training.pixels.MEMORY_LIMIT_BYTES", 0)
    anew = ImageCache(dataset, (32, 32))
    assert (kept.size, kept.pixels is None, anew.pixels is None) == ((37, 37), False, True)
    assert (reported[-1].done, reported[-1].total) == (45, 45)
    plan = [[3, 1, 2], [44], list(range(20)), [0], [5, 5], [6], [7]]
    for rows, (pixels, read), (again, _) in zip(plan, kept.batches(plan), anew.batches(plan), strict=True):
        assert torch.equal(pixels, again)
        assert read == rows


def test_training_images_are_not_larger_than_most_of_the_data(tmp_path: Path) -> None:
    images = [*pictures(9, size=40), *pictures(1, size=1)]
    assert ImageCache(open_dataset(write_folder(tmp_path, images), labeled=True), (64, 64)).size == (40, 40)


def test_curves_are_a_picture_of_both_plots(tmp_path: Path) -> None:
    history = [
        EpochResult(epoch, 2 / epoch, 1e-3, 100.0, 9.0, 1 - 1 / (epoch + 1), 1 - 0.2 / epoch) for epoch in (1, 2, 3)
    ]
    plot_curves(history[:1], tmp_path / "one.png", title="a model")
    plot_curves(history, tmp_path / "three.png", title="a model")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "three.png") as three:
        assert three.format == "PNG"
        assert three.width > 1000
        assert len(three.convert("RGB").getcolors(1 << 20) or []) > 50
        for left, right in ((0, three.width // 2), (three.width // 2, three.width)):
            halves = [image.convert("RGB").crop((left, 0, right, image.height)).tobytes() for image in (one, three)]
            assert halves[0] != halves[1]


def test_curves_leave_out_a_top5_that_is_always_right(tmp_path: Path) -> None:
    sky = tuple(bytes.fromhex(SKY.removeprefix("#")))
    for top5, drawn in ((1.0, False), (0.9, True)):
        history = [EpochResult(epoch, 2 / epoch, 1e-3, 100.0, 9.0, 0.5, top5) for epoch in (1, 2)]
        plot_curves(history, tmp_path / "curves.png", title="a model")
        with Image.open(tmp_path / "curves.png") as picture:
            colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20) or []}
        assert (sky in colors) == drawn
