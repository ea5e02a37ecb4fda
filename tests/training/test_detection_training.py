"""Trainings of a small detector: what they keep, how they resume, where they start, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from drawn_shapes import shape_pictures

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.measure import evaluate, network_predictor
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.recipe import DETECTION_RECIPE, QAT_RECIPE, Recipe
from mobilevit_sdk.tasks import Detection
from mobilevit_sdk.training import train
from mobilevit_sdk.training.start import network_for_training, spec_for_training
from mobilevit_sdk.training.trainer import Trainer


@pytest.fixture(scope="module", autouse=True)
def one_thread_for_all() -> Iterator[None]:
    """Also for the training that several tests share: it is compared bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


OPTIONS = {
    "dim": 32,
    "num_heads": 4,
    "mlp_dim": 64,
    "num_queries": 6,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "backbone_width": 8,
    "backbone_depths": [1, 1, 1, 1],
}
RECIPE = msgspec.structs.replace(
    DETECTION_RECIPE, epochs=2, batch_size=6, learning_rate=2e-3, warmup_epochs=0.1, ema_decay=0.5
)


@pytest.fixture(scope="module")
def data() -> ImageDataset:
    return shape_pictures(18, seed=1)


@pytest.fixture(scope="module")
def held_out() -> ImageDataset:
    return shape_pictures(6, seed=2)


def run(data: ImageDataset, held_out: ImageDataset, out: Path, recipe: Recipe = RECIPE, **options: object) -> Path:
    chosen: dict = {"model": "detr_resnet50", "options": OPTIONS, "image_size": (64, 96), **options}
    return train(data, held_out, out, recipe=recipe, device="cpu", **chosen).path


@pytest.fixture(scope="module")
def trained(data: ImageDataset, held_out: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(data, held_out, tmp_path_factory.mktemp("trained"))


def test_a_training_keeps_average_precision_and_no_accuracy(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained.parent / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all({"ap", "ap50"} < row.keys() and "top1" not in row for row in rows)
    assert rows[1]["loss"] < rows[0]["loss"]
    header = load_checkpoint(trained).spec
    assert (header.labels, header.num_classes) == (("circle", "square", "triangle"), 3)
    assert {"ap", "ap50", "ap75"} < header.provenance.keys()
    assert header.preprocessing.image_size == (64, 96)
    assert header.config["frozen_norm"] is False  # nothing is there to be kept


def test_the_checkpoint_answers_as_it_was_measured(trained: Path, held_out: ImageDataset) -> None:
    last = json.loads((trained.parent / "metrics.jsonl").read_text().splitlines()[-1])
    measured = evaluate(load_checkpoint(trained), data=held_out).accuracy.shares
    assert measured["ap"] == pytest.approx(last["ap"], abs=1e-6)


def test_an_interrupted_training_ends_where_it_would_have(
    trained: Path, data: ImageDataset, held_out: ImageDataset, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(step: object) -> None:
        if getattr(step, "epoch", 0) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        run(data, held_out, tmp_path, progress=stop)
    again = run(data, held_out, tmp_path)
    one, other = (load_checkpoint(path).model.state_dict() for path in (trained, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_other_boxes_are_another_training(trained: Path, data: ImageDataset, held_out: ImageDataset) -> None:
    assert data.objects is not None
    moved = [dataclasses.replace(each, boxes=each.boxes + np.float32(1)) for each in data.objects]
    changed = dataclasses.replace(data, objects=moved)
    with pytest.raises(RequestError, match="its training images differ"):
        run(changed, held_out, trained.parent)


def test_fine_tuning_starts_from_the_checkpoint_and_keeps_what_was_pretrained(
    data: ImageDataset, held_out: ImageDataset, trained: Path, tmp_path: Path
) -> None:
    start = load_checkpoint(trained)
    frozen = msgspec.structs.replace(start.spec, config={**start.spec.config, "frozen_norm": True})
    network = build_model(frozen)
    network.load_state_dict(start.model.state_dict())
    two, test_two = (
        dataclasses.replace(
            each,
            class_names=("edgy", "round"),
            objects=[
                dataclasses.replace(found, classes=(found.classes == 0).astype(int)) for found in each.objects or ()
            ],
        )
        for each in (data, held_out)
    )
    checkpoint = dataclasses.replace(start, model=network, spec=frozen)
    options = {"model": None, "options": None, "image_size": None, "checkpoint": checkpoint}
    tuned = load_checkpoint(run(two, test_two, tmp_path, msgspec.structs.replace(RECIPE, epochs=1), **options))
    assert (tuned.spec.labels, tuned.spec.preprocessing.image_size) == (("edgy", "round"), (64, 96))
    before, after = network.state_dict(), tuned.model.state_dict()
    assert after["class_head.weight"].shape == (3, 32)
    same = {name for name in after if torch.equal(after[name], before.get(name, torch.empty(0)))}
    assert {name for name in after if name.startswith(("backbone.stem", "backbone.stages.0"))} <= same
    assert {name for name in after if ".norm.running" in name and name.startswith("backbone.")} <= same
    assert "transformer.encoder.0.mlp.fc1.weight" not in same


def test_the_backbone_of_a_pretrained_detector_learns_slowly(
    data: ImageDataset, held_out: ImageDataset, tmp_path: Path
) -> None:
    spec = spec_for_training("detr_resnet50", None, data, (64, 96), None, {**OPTIONS, "frozen_norm": True})
    network = network_for_training(spec, RECIPE, None)
    network.freeze_pretrained()
    trainer = Trainer(network, spec, RECIPE, data, held_out, tmp_path, device=torch.device("cpu"))
    names = {parameter: name for name, parameter in network.named_parameters()}
    rates = {names[each]: group["rate"] for group in trainer.optimizer.param_groups for each in group["params"]}
    assert {rate for name, rate in rates.items() if name.startswith("backbone.")} == {0.1}
    assert {rate for name, rate in rates.items() if not name.startswith("backbone.")} == {1.0}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer.run()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    still = [name for name in before if name.startswith(("backbone.stem", "backbone.stages.0"))]
    assert not changed.intersection(still)
    assert not any("norm.weight" in name or "running" in name for name in changed if name.startswith("backbone."))
    assert any(name.startswith("backbone.stages.3") and "conv" in name for name in changed)


def test_auxiliary_losses_reach_every_decoder_layer(data: ImageDataset) -> None:
    spec = spec_for_training("detr_resnet50", None, data, 64, None, OPTIONS)
    network, task = network_for_training(spec, RECIPE, None).train(), Detection(spec)
    answers = task.answers(network, torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert len(answers) == 2
    targets = task.targets(task.match(data), [0, 1])
    alone = task.loss(answers[-1], targets)
    assert task.loss(answers, targets) > alone


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"recipe": QAT_RECIPE}, "does not learn"),
        ({"options": {**OPTIONS, "dim": 33}}, "dim"),
        ({"options": {"queries": 3}}, "num_queries"),
        ({"model": "mobilevit_xxs", "options": None, "image_size": 64}, "boxes"),
    ],
)
def test_what_a_detector_cannot_do_is_refused(
    data: ImageDataset, held_out: ImageDataset, tmp_path: Path, options: dict, problem: str
) -> None:
    if "recipe" in options:
        options = {**options, "recipe": msgspec.structs.replace(QAT_RECIPE, distillation=None)}
    with pytest.raises(RequestError, match=problem):
        run(data, held_out, tmp_path, **options)


def test_a_picture_is_evaluated_in_its_own_pixels(data: ImageDataset, trained: Path) -> None:
    checkpoint = load_checkpoint(trained)
    task = Detection(checkpoint.spec)
    (seen,) = task.find(network_predictor(checkpoint.model, checkpoint.spec), data, [0])
    assert seen is not None
    assert seen.boxes.shape == (6, 4)
    assert (seen.boxes[:, :2] >= 0).all()
    assert (seen.boxes[:, :2] + seen.boxes[:, 2:] <= 128 + 1e-9).all()
    assert seen.boxes[:, 2:].max() > 2  # pixels, not shares
