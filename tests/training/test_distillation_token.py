"""DeiT's distillation token: which head learns what, how good each is, and fine-tuning at a larger size."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from labeled_images import pictures, write_parquet
from rich.console import Console
from tiny_networks import FAMILIES, noise, tiny_model, tiny_spec

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.cli.training import TrainingDisplay
from mobilevit_sdk.data import open_dataset, to_model_input
from mobilevit_sdk.layers import LayerScale, PositionBias
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, model_spec
from mobilevit_sdk.recipe import FINETUNE_RECIPE, QAT_RECIPE, read_recipe
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.tasks.distillation import distillation_loss, token_loss
from mobilevit_sdk.training import Distillation, EpochDone, EpochResult, Recipe, Trainer
from mobilevit_sdk.training.optimization import optimizer_for

RECIPES = Path(__file__).parents[2] / "recipes"
SMOOTHED = Recipe(label_smoothing=0.1)


def _scores(seed: int) -> torch.Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))


def _loss_and_gradients(recipe: Recipe, teacher: torch.Tensor | None) -> tuple[torch.Tensor, list[torch.Tensor]]:
    heads = tuple(_scores(seed).requires_grad_() for seed in (0, 1))
    targets = _scores(2).softmax(1)  # as mixing makes them
    loss = task_of(tiny_spec("vit")).loss(heads, targets, recipe, teacher)
    return loss.detach(), list(torch.autograd.grad(loss, heads))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_the_class_head_learns_the_labels_and_the_distillation_head_the_teacher(kind: str) -> None:
    recipe = msgspec.structs.replace(SMOOTHED, distillation=Distillation(kind=kind, temperature=2.0, weight=0.3))
    teacher, (first, second) = _scores(3), (_scores(0).requires_grad_(), _scores(1).requires_grad_())
    labels = 0.7 * F.cross_entropy(first, 0.9 * _scores(2).softmax(1) + 0.1 / 5)
    taught = F.cross_entropy(second, teacher.argmax(1))
    if kind == "soft":
        p = (teacher / 2).softmax(1)
        taught = 4 * (p * (p.log() - (second / 2).log_softmax(1))).sum(1).mean()
    loss, gradients = _loss_and_gradients(recipe, teacher)
    torch.testing.assert_close(loss, (labels + 0.3 * taught).detach())
    torch.testing.assert_close(gradients[0], *torch.autograd.grad(labels, first))
    torch.testing.assert_close(gradients[1], *torch.autograd.grad(0.3 * taught, second))


def test_without_a_teacher_both_heads_learn_the_labels() -> None:
    loss, gradients = _loss_and_gradients(SMOOTHED, None)
    targets = 0.9 * _scores(2).softmax(1) + 0.1 / 5
    torch.testing.assert_close(loss, (F.cross_entropy(_scores(0), targets) + F.cross_entropy(_scores(1), targets)) / 2)
    assert all(each.abs().max() > 0.01 for each in gradients)


def test_a_network_that_is_its_own_teacher_learns_by_the_mean_of_its_heads() -> None:
    """What a pruned or quantized network is to keep is its answer, which is that mean."""
    for recipe in (QAT_RECIPE, FINETUNE_RECIPE):
        how, (first, second), targets = recipe.distillation, (_scores(0), _scores(1)), _scores(2).softmax(1)
        expected = distillation_loss((first + second) / 2, targets, _scores(3), how, 0.1)
        torch.testing.assert_close(token_loss((first, second), targets, _scores(3), how, 0.1), expected)


def test_a_network_with_a_token_answers_a_pair_in_training_and_their_mean_in_evaluation() -> None:
    model, spec = tiny_model("vit")
    images = noise(2, 3, *spec.preprocessing.image_size)
    mean = model(images)
    scores, taught = model.train()(images)
    torch.testing.assert_close((scores + taught) / 2, mean)
    assert (scores - taught).abs().max() > 0.01
    assert tiny_model("vit", distillation_head=False)[0].train()(images).shape == mean.shape


@pytest.mark.parametrize("family", FAMILIES)
def test_weight_decay_is_for_matrices_and_kernels_alone(family: str) -> None:
    """Of every family: tokens, positions, tables of biases, norms and factors of LayerScale are left alone."""
    model = build_model(tiny_spec(family))
    groups = optimizer_for(model, Recipe()).param_groups
    decayed = {each for group in groups if group["weight_decay"] for each in group["params"]}
    matrices = {
        layer.weight for layer in model.modules() if isinstance(layer, (torch.nn.Linear, torch.nn.modules.conv._ConvNd))
    }
    assert decayed == matrices - {each for each in matrices if each.ndim < 2}
    left = {name for name, each in model.named_parameters() if each not in decayed}
    for name, layer in model.named_modules():
        if isinstance(layer, (LayerScale, PositionBias, torch.nn.LayerNorm, torch.nn.BatchNorm2d)):
            assert {f"{name}.{leaf}" for leaf, _ in layer.named_parameters(recurse=False)} <= left
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(20, size=32))


def _student(folder: Path) -> Path:
    model, spec = tiny_model("vit")
    labels = tuple(f"class {i}" for i in range(5))
    save_checkpoint(model, msgspec.structs.replace(spec, labels=labels), folder / "student.safetensors")
    return folder / "student.safetensors"


def _train(*arguments: object) -> str:
    common = ("--device", "cpu", "--threads", 1, "--epochs", 1, "--batch-size", 8, "--json")
    result = CliRunner().invoke(main, ["train", *map(str, (*arguments, *common))])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_both_heads_are_reported_and_each_learns_from_its_own(data: Path, tmp_path: Path) -> None:
    """The teacher knows one class alone: the distillation head comes to answer it always, the class head does not."""
    spec = msgspec.structs.replace(tiny_spec("vit"), labels=tuple(f"class {i}" for i in range(5)))
    stubborn = randomize(build_model(spec), 1)
    with torch.no_grad():
        for linear in (stubborn.head.linear, stubborn.head.linear_dist):
            linear.weight.zero_()
            linear.bias.copy_(torch.tensor([0.0, 0, 0, 9, 0]))
    save_checkpoint(stubborn.eval(), spec, tmp_path / "teacher.safetensors")
    recipe = Recipe(
        epochs=16,
        batch_size=20,
        learning_rate=0.01,
        augment_ops=0,
        crop_scale=(1.0, 1.0),
        mix_probability=0,
        ema_decay=0.2,
        distillation=Distillation(kind="hard"),
    )
    dataset, teacher = open_dataset(data, labeled=True), load_checkpoint(tmp_path / "teacher.safetensors")
    lines = io.StringIO()
    display = TrainingDisplay(Console(file=lines, width=80))
    torch.manual_seed(0)
    trainer = Trainer(
        build_model(spec), spec, recipe, dataset, dataset, tmp_path / "out", device=torch.device("cpu"), teacher=teacher
    )
    with display:
        trainer.progress = lambda step: display(step) if isinstance(step, EpochDone) else None
        result = trainer.run()
    assert result.top1_distillation == 0.2  # a fifth of the images is of that class
    assert result.top1_class >= 0.4
    network = load_checkpoint(tmp_path / "out" / "model.safetensors").model
    images = np.stack([np.asarray(dataset.image(row)).transpose(2, 0, 1) for row in range(20)])
    with torch.no_grad():
        x = to_model_input(torch.from_numpy(images), spec.preprocessing)
        heads = torch.stack([*network.train()(x), network.eval()(x)])
    shares = (heads.argmax(2) == torch.tensor(dataset.labels)).double().mean(1).tolist()
    assert [result.top1_class, result.top1_distillation, result.top1] == pytest.approx(shares)
    row = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (row["top1_class"], row["top1_distillation"]) == (result.top1_class, result.top1_distillation)
    assert f"class {result.top1_class:.2%}  dist 20.00%  lr" in lines.getvalue()
    assert "(class head " in result.describe()


def test_the_line_of_an_epoch_with_two_heads_fits_80_columns() -> None:
    lines = io.StringIO()
    result = EpochResult(300, 2.345, 5e-4, 1234.5, 9.0, 0.7454, 0.921, top1_class=0.739, top1_distillation=0.7461)
    with TrainingDisplay(Console(file=lines, width=80)) as display:
        display(EpochDone("epoch 300/300", 1, 1, result=result))
    assert lines.getvalue().splitlines() == [
        "epoch 300/300  loss 2.345  top-1 74.54%  class 73.90%  dist 74.61%  lr 5.0e-04"
    ]


def test_fine_tuning_at_a_larger_size_interpolates_positions_and_distills_on_by_the_commands(
    data: Path, tmp_path: Path
) -> None:
    student = _student(tmp_path)
    recipe = read_recipe(RECIPES / "deit_finetune_384.json")
    common = ("--checkpoint", student, "--image-size", 64, "--data", data, "--test-data", data)
    common += ("--recipe", RECIPES / "deit_finetune_384.json", "--teacher", student)
    told = json.loads(_train(*common, "--out", tmp_path / "out"))
    assert {"top1", "top1_class", "top1_distillation"} <= told.keys()
    tuned, first = load_checkpoint(told["checkpoint"]), load_checkpoint(student)
    assert tuned.spec.preprocessing.image_size == (64, 64)
    expected = first.model.tokens.positions_at((8, 8))
    assert tuned.model.tokens.positions.shape == expected.shape
    moved = (tuned.model.tokens.positions - expected).abs().max().item()
    assert 0 < moved < 10 * recipe.learning_rate  # it began there, and a few steps of that rate were taken
    assert tuned.spec.provenance["recipe"]["distillation"]["kind"] == "hard"


def test_the_recipes_of_deit_are_those_of_its_authors() -> None:
    tiny, tuned = (read_recipe(RECIPES / f"{name}.json") for name in ("deit_tiny", "deit_finetune_384"))
    assert (tiny.epochs, tiny.batch_size, tiny.learning_rate, tiny.final_learning_rate) == (300, 1024, 1e-3, 1e-5)
    assert (tuned.epochs, tuned.learning_rate, tuned.weight_decay) == (30, 5e-6, 1e-8)
    assert {tuned.learning_rate_at(share) for share in (0.2, 0.5, 1.0)} == {5e-6}
    for recipe in (tiny, tuned):
        assert recipe.distillation == Distillation(kind="hard")
        assert all(name in model_spec("deit_tiny_distilled_patch16_224").config for name in recipe.model)
