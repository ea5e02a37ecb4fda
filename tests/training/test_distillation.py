"""Distillation: the losses of the papers, what the teacher sees, and a training that knows its teacher again."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import randomize, tiny_model, tiny_spec
from hypothesis import given
from hypothesis import strategies as st
from killed_training import make_trainer, stop_after_a_step
from labeled_images import pictures, write_parquet

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import open_dataset, to_model_input
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.tasks.distillation import distillation_loss
from mobilevit_sdk.training import Distillation, Recipe, Trainer
from mobilevit_sdk.training.distillation import make_teacher

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=2, batch_size=8, sizes=(32, 40), mix_probability=0.5, learning_rate=5e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(20))


def _teacher(seed: int = 7, **changes: object) -> Checkpoint:
    model, spec = tiny_model(seed, image_size=40)
    return Checkpoint(model, msgspec.structs.replace(spec, **changes), "own", f"runs/teacher{seed}.safetensors")


def _trainer(data: Path, out: Path, recipe: Recipe, teacher: Checkpoint | None) -> Trainer:
    spec = tiny_spec(image_size=40)
    dataset = open_dataset(data, labeled=True)
    model = randomize(build_model(spec), 0)
    return Trainer(model, spec, recipe, dataset, dataset, out, device=CPU, teacher=teacher)


def _softmax(scores: list[float], temperature: float) -> list[float]:
    powers = [math.exp(score / temperature) for score in scores]
    return [power / sum(powers) for power in powers]


def test_soft_labels_are_those_of_hinton() -> None:
    mine, theirs, target, t, weight = [0.3, -1.0, 2.0], [1.5, 0.2, -0.7], [0.0, 0.25, 0.75], 2.5, 0.4
    kl = sum(p * math.log(p / q) for p, q in zip(_softmax(theirs, t), _softmax(mine, t), strict=True))
    labeled = -sum(p * math.log(q) for p, q in zip(target, _softmax(mine, 1), strict=True))
    loss = distillation_loss(
        *(torch.tensor([row]) for row in (mine, target, theirs)), Distillation(temperature=t, weight=weight), 0.0
    )
    assert loss.item() == pytest.approx((1 - weight) * labeled + weight * t**2 * kl, rel=1e-5)


def test_hard_labels_are_those_of_deit() -> None:
    mine, theirs, target = [0.3, -1.0, 2.0], [1.5, 0.2, -0.7], [0.0, 0.25, 0.75]
    labeled = -sum(p * math.log(q) for p, q in zip(target, _softmax(mine, 1), strict=True))
    loss = distillation_loss(
        *(torch.tensor([row]) for row in (mine, target, theirs)), Distillation(kind="hard", weight=0.4), 0.0
    )
    assert loss.item() == pytest.approx(0.6 * labeled - 0.4 * math.log(_softmax(mine, 1)[0]), rel=1e-5)


@given(seed=st.integers(0, 1000), temperature=st.floats(0.5, 20), weight=st.floats(0, 1))
def test_student_that_answers_as_its_teacher_learns_from_the_labels_alone(
    seed: int, temperature: float, weight: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    targets = torch.rand(4, 6, generator=generator, dtype=torch.float64).softmax(1)
    how = Distillation(temperature=temperature, weight=weight)
    alone = torch.nn.functional.cross_entropy(scores, targets, label_smoothing=0.1)
    assert distillation_loss(scores, targets, scores, how, 0.1).item() == pytest.approx((1 - weight) * alone.item())
    other = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    assert distillation_loss(scores, targets, other, how, 0.1).item() >= (1 - weight) * alone.item()


def test_teacher_answers_in_eval_mode_with_its_own_preprocessing() -> None:
    preprocessing = msgspec.structs.replace(
        tiny_spec().preprocessing, image_size=(48, 48), channel_order="rgb", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)
    )
    checkpoint = _teacher(preprocessing=preprocessing)
    checkpoint.model.train()
    teacher = make_teacher(checkpoint, tiny_spec(image_size=40), CPU)
    color = torch.rand(2, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    scores = teacher.scores(color.expand(2, 3, 40, 40))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    with torch.no_grad():
        expected = checkpoint.model.eval()(((color - mean) / std).expand(2, 3, 48, 48))
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
    assert not scores.requires_grad


def test_classes_of_the_teacher_are_put_in_the_order_of_the_student() -> None:
    student = tiny_spec(image_size=40)
    names = student.labels
    assert names is not None
    same, turned = _teacher(), _teacher(labels=names[::-1])
    images = torch.rand(2, 3, 40, 40)
    straight, back = (make_teacher(each, student, CPU).scores(images) for each in (same, turned))
    torch.testing.assert_close(back, straight.flip(1))
    assert not torch.equal(back, straight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("class 0", "class 1", "class 2", "class 3", "class 5")}, "lacks the class 'class 4'"),
        (
            {"labels": (*(f"class {i}" for i in range(5)), "class 4"), "config": tiny_spec(num_classes=6).config},
            "several classes 'class 4'",
        ),
        ({"labels": None, "config": tiny_spec(num_classes=6).config}, "has 6 classes, but mobilevit_xxs is to learn 5"),
    ],
)
def test_teacher_of_other_classes_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_teacher(_teacher(**changes), tiny_spec(image_size=40), CPU)


def test_teacher_sees_the_augmented_and_mixed_images_of_the_student(data: Path, tmp_path: Path) -> None:
    trainer = _trainer(data, tmp_path, msgspec.structs.replace(RECIPE, mix_probability=1.0), _teacher())
    assert trainer.teacher is not None
    seen: dict[str, list[torch.Tensor]] = {"student": [], "teacher": []}
    trainer.model.register_forward_pre_hook(lambda _, inputs: seen["student"].append(inputs[0].detach().clone()))
    trainer.teacher.model.register_forward_pre_hook(lambda _, inputs: seen["teacher"].append(inputs[0].clone()))
    trainer.run()
    assert len(seen["student"]) == len(seen["teacher"]) > 0
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*seen.values(), strict=True))
    assert {x.shape[-1] for x in seen["teacher"]} == {32, 40}


def test_teacher_does_not_change_while_the_student_that_started_from_it_does(data: Path, tmp_path: Path) -> None:
    checkpoint = _teacher()
    spec, dataset = tiny_spec(image_size=40), open_dataset(data, labeled=True)
    trainer = Trainer(checkpoint.model, spec, RECIPE, dataset, dataset, tmp_path, device=CPU, teacher=checkpoint)
    assert trainer.teacher is not None
    before = {name: value.clone() for name, value in trainer.teacher.model.state_dict().items()}
    trainer.run()
    assert all(torch.equal(value, before[name]) for name, value in trainer.teacher.model.state_dict().items())
    assert not torch.equal(trainer.model.state_dict()["head.weight"], before["head.weight"])


def test_student_of_soft_labels_alone_comes_to_answer_as_its_teacher(tmp_path: Path) -> None:
    """The labels are another task's, and have no weight: only the teacher can have taught what was learned."""
    path = write_parquet(tmp_path / "a.parquet", [(encoded, 0) for encoded, _ in pictures(60)])
    recipe = Recipe(
        epochs=8,
        batch_size=10,
        learning_rate=0.01,
        augment_ops=0,
        crop_scale=(1.0, 1.0),
        mix_probability=0,
        ema_decay=0.5,
        distillation=Distillation(weight=1.0, temperature=1.0),
    )
    checkpoint = _teacher()
    trainer = _trainer(path, tmp_path / "out", recipe, checkpoint)
    assert trainer.teacher is not None
    pixels = trainer.feed.cache.pixels
    assert pixels is not None
    images = pixels[:, :, :40, :40].float() / 255
    taught = trainer.teacher.scores(images).argmax(1).numpy()
    assert len(np.unique(taught)) > 1

    def agreement() -> float:
        with torch.no_grad():
            scores = trainer.average.model(to_model_input(images, trainer.spec.preprocessing))
        return float((scores.argmax(1).numpy() == taught).mean())

    before = agreement()
    trainer.run()
    assert agreement() > max(before, 0.85)
    losses = [row.loss for row in trainer.history()]
    assert losses[-1] < 0.5 * losses[0]


def test_distilled_training_goes_on_bit_for_bit_and_names_its_teacher(data: Path, tmp_path: Path) -> None:
    for name in ("whole", "stopped"):
        trainer = _trainer(data, tmp_path / name, RECIPE, _teacher())
        if name == "stopped":
            stop_after_a_step(trainer)
            trainer.run()
            trainer = _trainer(data, tmp_path / name, RECIPE, _teacher())
            assert trainer.resumed
            assert trainer.steps_done == 1
        trainer.run()
    whole, stopped = (load_checkpoint(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    states = (each.model.state_dict().values() for each in (whole, stopped))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    provenance = whole.spec.provenance
    assert provenance["teacher"] == {"model": "mobilevit_xxs", "source": "teacher7.safetensors", "sha256": None}
    assert msgspec.convert(provenance["recipe"]["distillation"], Distillation) == Distillation()


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (7, 8, "its teacher differs"),
        (7, None, "it has a teacher"),
        (None, 7, "it has no teacher"),
    ],
)
def test_training_with_another_teacher_is_refused_the_folder(
    data: Path, tmp_path: Path, first: int | None, second: int | None, message: str
) -> None:
    teachers = [None if seed is None else _teacher(seed) for seed in (first, second)]
    trainer = _trainer(data, tmp_path, RECIPE, teachers[0])
    stop_after_a_step(trainer)
    trainer.run()
    with pytest.raises(RequestError, match=f"holds another training.*{message}.*give another `out`"):
        _trainer(data, tmp_path, RECIPE, teachers[1])


def test_recipe_that_distills_needs_a_teacher(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="distills from a teacher; give one"):
        make_trainer(data, tmp_path, Recipe(distillation=Distillation(kind="hard")))


def test_training_of_before_distillation_goes_on_unless_its_images_were_augmented_otherwise(
    data: Path, tmp_path: Path
) -> None:
    """Its state knows neither teachers nor that field of the recipe."""
    trainer = _trainer(data, tmp_path, RECIPE, None)
    stop_after_a_step(trainer)
    trainer.run()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["teacher"]
    recipe = msgspec.json.decode(state["recipe"])
    del recipe["distillation"]
    torch.save(state | {"recipe": msgspec.json.encode(recipe).decode()}, tmp_path / "state.pt")
    assert _trainer(data, tmp_path, RECIPE, None).resumed
    del state["augmentation"]  # of before images had seeds of their own
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(RequestError, match=r"augmented by another version of this SDK.*; give another `out`"):
        _trainer(data, tmp_path, RECIPE, None)


@pytest.mark.parametrize("values", [{"temperature": 0.0}, {"weight": 1.5}, {"weight": math.nan}])
def test_distillation_out_of_range_is_refused(values: dict) -> None:
    with pytest.raises(ValueError, match=f"distillation {next(iter(values))} must lie between"):
        Distillation(**values)


def test_command_line_takes_a_teacher(data: Path, tmp_path: Path) -> None:
    checkpoint = _teacher()
    save_checkpoint(checkpoint.model, checkpoint.spec, tmp_path / "teacher.safetensors")
    recipe = msgspec.structs.replace(RECIPE, distillation=Distillation(kind="hard"))
    (tmp_path / "recipe.json").write_bytes(msgspec.json.encode(recipe))
    options = {"checkpoint": "teacher.safetensors", "teacher": "teacher.safetensors", "recipe": "recipe.json"}
    arguments = [part for name, file in options.items() for part in (f"--{name}", tmp_path / file)]
    arguments += ["--data", data, "--test-data", data, "--out", tmp_path / "out", "--device", "cpu", "--threads", 1]
    result = CliRunner().invoke(main, ["train", *map(str, arguments), "--epochs", "1", "--image-size", "40"])
    assert result.exit_code == 0, result.stderr
    assert "hard labels of mobilevit_xxs" in result.stderr
    written = load_checkpoint(tmp_path / "out" / "model.safetensors").spec.provenance
    assert written["teacher"]["sha256"] == load_checkpoint(tmp_path / "teacher.safetensors").sha256
    assert written["recipe"]["distillation"]["kind"] == "hard"
