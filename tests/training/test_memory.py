"""A task that learns on a frozen network: what learns, what stays, what is written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import CliRunner, Result
from killed_training import stop_after_a_step
from labeled_images import NAMES, pictures, write_parquet
from tiny_networks import noise, phone_checkpoint

from mobilevit_sdk import evaluate, load_checkpoint, save_checkpoint, train_task
from mobilevit_sdk.checkpoints.task_file import read_task
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.recipe import MEMORY_RECIPE, Distillation, QuantizationAware, Recipe
from mobilevit_sdk.training import Trainer, TrainingStarted, memory

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = msgspec.structs.replace(MEMORY_RECIPE, epochs=4, batch_size=15, learning_rate=0.03, ema_decay=0.5)


@pytest.fixture(scope="module", autouse=True)
def no_curves() -> Iterator[None]:
    """Drawing them takes most of the time of so small a training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mobilevit_sdk.training.trainer.plot_curves", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(45))


@pytest.fixture(scope="module", params=["vit", "deepvit"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained with dropout, which a frozen network does without."""
    made = phone_checkpoint(request.param)
    spec = msgspec.structs.replace(made.spec, config={**made.spec.config, "dropout": 0.5, "stochastic_depth": 0.5})
    path = tmp_path_factory.mktemp("base") / f"{request.param}.safetensors"
    save_checkpoint(made.model, spec, path)
    return path


@pytest.fixture(scope="module")
def learned(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("learned")
    train_task(base, data, data, out, task="stripes", memory=2, recipe=RECIPE, device="cpu")
    return out


def _metrics(out: Path) -> list[dict]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def test_the_base_answers_to_the_bit_what_it_did_and_the_task_what_was_measured(
    base: Path, learned: Path, data: Path
) -> None:
    alone, both = load_checkpoint(base), load_checkpoint(base, tasks=[learned / "model.safetensors"])
    image = noise(2, 3, 48, 48)
    own, scores = both.model(image)
    assert torch.equal(own, alone.model(image))
    assert scores.shape == (2, 5)
    (found,) = both.spec.tasks or ()
    assert (found.name, found.cells, found.labels) == ("stripes", 2, NAMES)
    measured = _metrics(learned)
    assert evaluate(both, data=data, task="stripes").accuracy.top1 == measured[-1]["top1"]
    assert measured[-1]["loss"] < measured[0]["loss"] - 0.1


def test_the_file_holds_the_task_alone_and_says_what_it_stands_on(base: Path, learned: Path) -> None:
    read = read_task(learned / "best.safetensors")
    assert set(read.tensors) == {"token", "memory", "head.weight", "head.bias"}
    header = read.header
    assert header.base_source == base.name
    assert header.preprocessing == load_checkpoint(base).spec.preprocessing
    assert header.provenance["recipe"]["epochs"] == 4
    assert header.provenance["data"] == "a.parquet"
    assert (learned / "state.pt").stat().st_size < 20_000  # of a base with more weights than that
    other = load_checkpoint(base)
    with torch.no_grad():
        other.model.norm.bias[0] += 1e-3
    save_checkpoint(other.model, other.spec, learned / "other.safetensors")
    with pytest.raises(CheckpointError, match="whose weights are others than those of"):
        load_checkpoint(learned / "other.safetensors", tasks=[learned / "model.safetensors"])


def test_a_task_learned_at_another_image_size_stands_on_the_same_file(base: Path, data: Path, tmp_path: Path) -> None:
    """Positions are interpolated there, so these are other weights than the file's."""
    larger = load_checkpoint(base, image_size=64)
    recipe = msgspec.structs.replace(RECIPE, epochs=1)
    learned = train_task(larger, data, data, tmp_path, task="stripes", memory=1, recipe=recipe, device="cpu")
    both = load_checkpoint(base, image_size=64, tasks=[learned.path])
    assert evaluate(both, data=data, task="stripes").accuracy.top1 == _metrics(tmp_path)[-1]["top1"]
    assert not any("prepared otherwise" in note for note in both.notes)
    with pytest.raises(CheckpointError, match="whose weights are others"):
        load_checkpoint(base, tasks=[learned.path])


def test_a_task_that_extends_another_learns_on_it_and_leaves_it_as_it_is(
    base: Path, learned: Path, data: Path, tmp_path: Path
) -> None:
    first = learned / "model.safetensors"
    recipe = msgspec.structs.replace(RECIPE, epochs=1)
    options = {"task": "more", "memory": 1, "recipe": recipe, "device": "cpu"}
    more = train_task(base, data, data, tmp_path / "more", extends=[first], **options)
    both = load_checkpoint(base, tasks=[first, more.path])
    assert [task.extends for task in both.spec.tasks] == [(), ("stripes",)]
    assert evaluate(both, data=data, task="more").accuracy.top1 == _metrics(tmp_path / "more")[-1]["top1"]
    image = noise(2, 3, 48, 48)
    before = both.model(image)
    assert torch.equal(before[1], load_checkpoint(base, tasks=[first]).model(image)[1])
    with torch.no_grad():
        both.model.tasks[0].memory.neg_()
    assert (both.model(image)[2] - before[2]).abs().max() > 1e-3  # it sees the memory of the first
    with pytest.raises(RequestError, match="extends 'stripes', which must stand before it"):
        load_checkpoint(base, tasks=[more.path])
    with pytest.raises(RequestError, match="answers 'stripes' already"):
        train_task(base, data, data, tmp_path / "again", extends=[first], **{**options, "task": "stripes"})


def test_token_memory_and_head_learn_and_nothing_else(base: Path, data: Path, tmp_path: Path) -> None:
    given = load_checkpoint(base)
    before = {name: value.clone() for name, value in given.model.state_dict().items()}
    trainers: list[Trainer] = []

    class Kept(Trainer):
        def run(self):
            self.first = {name: value.clone() for name, value in self.model.state_dict().items()}
            trainers.append(self)
            return super().run()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "Trainer", Kept)
        recipe = msgspec.structs.replace(RECIPE, epochs=1, weight_decay=0.05)
        train_task(given, data, data, tmp_path, task="stripes", memory=2, recipe=recipe, device="cpu")
    (trainer,) = trainers
    assert set(trainer.first) == {"task.token", "task.memory", "task.head.weight", "task.head.bias"}
    assert not any(torch.equal(value, trainer.first[name]) for name, value in trainer.model.state_dict().items())
    for network in (trainer.model.network, trainer.average.model.network):
        assert not network.training
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
        assert all(p.grad is None for name, p in network.named_parameters() if not name.startswith("tasks."))
    assert all(torch.equal(value, before[name]) for name, value in given.model.state_dict().items())
    assert given.model.tasks is None
    assert all(parameter.requires_grad for parameter in given.model.parameters())
    decays = {id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    named = dict(trainer.model.named_parameters())
    assert {name for name in named if decays[id(named[name])]} == {"task.head.weight"}


def test_a_training_that_was_stopped_ends_bit_for_bit_as_one_that_was_not(
    base: Path, learned: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Trainer.run
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", lambda trainer: (stop_after_a_step(trainer), run(trainer))[1])
        with pytest.raises(KeyboardInterrupt):
            train_task(base, data, data, tmp_path, task="stripes", memory=2, recipe=RECIPE, device="cpu")
    assert not (tmp_path / "model.safetensors").exists()
    resumed = train_task(base, data, data, tmp_path, task="stripes", memory=2, recipe=RECIPE, device="cpu")
    assert resumed.resumed
    assert _metrics(tmp_path) == _metrics(learned)
    mine, theirs = read_task(tmp_path / "model.safetensors"), read_task(learned / "model.safetensors")
    assert mine.header == theirs.header
    assert all(torch.equal(value, theirs.tensors[name]) for name, value in mine.tensors.items())


def test_a_folder_of_another_task_is_refused(base: Path, learned: Path, data: Path) -> None:
    for changed, message in (({"memory": 3}, "its memory is 2, not 3"), ({"task": "waves"}, "its task is")):
        options = {"task": "stripes", "memory": 2, **changed}
        with pytest.raises(RequestError, match=message):
            train_task(base, data, data, learned, recipe=RECIPE, device="cpu", **options)


@pytest.mark.parametrize("base", ["vit"], indirect=True)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_memory_token_and_head_learn(base: Path, data: Path, tmp_path: Path, precision: str) -> None:
    recipe = msgspec.structs.replace(RECIPE, epochs=1, precision=precision)
    train_task(base, data, data, tmp_path, task="stripes", memory=0, recipe=recipe, device="cpu")
    read = read_task(tmp_path / "model.safetensors")
    assert set(read.tensors) == {"token", "head.weight", "head.bias"}
    assert read.task.cells == 0
    assert len(load_checkpoint(base, tasks=[tmp_path / "model.safetensors"]).spec.outputs) == 2


@pytest.mark.parametrize("base", ["vit"], indirect=True)
def test_tasks_that_learned_apart_stand_side_by_side(base: Path, learned: Path, data: Path, tmp_path: Path) -> None:
    """Also on a checkpoint that answers one already, whose name is then taken."""
    first = load_checkpoint(base, tasks=[learned / "model.safetensors"])
    with pytest.raises(RequestError, match=r"the base answers 'stripes' already \(logits, stripes\)"):
        train_task(first, data, data, tmp_path, task="stripes", device="cpu")
    recipe = msgspec.structs.replace(RECIPE, epochs=1)
    started: list[TrainingStarted] = []

    def listen(step: object) -> None:
        started.extend([step] if isinstance(step, TrainingStarted) else [])

    done = train_task(first, data, data, tmp_path, task="waves", recipe=recipe, device="cpu", progress=listen)
    assert started[0].stage == f"learning waves on {first.spec.model}"
    assert "5 memory cells a block, 261 parameters" in started[0].detail  # 16 + 2 * 5 * 16 + 5 * 16 + 5
    both = load_checkpoint(base, tasks=[learned / "model.safetensors", done.path])
    image = noise(1, 3, 48, 48)
    assert torch.equal(both.model(image)[1], first.model(image)[1])


@pytest.mark.parametrize("base", ["vit"], indirect=True)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "Two words"}, r"a task cannot be 'Two words' with 5 memory cells: give lowercase letters"),
        ({"task": "logits"}, "'logits' means something else in phone files"),
        ({"memory": -1}, "a task cannot be 'stripes' with -1 memory cells"),
        ({"recipe": Recipe(distillation=Distillation())}, "without distillation: take it out of the recipe"),
        ({"recipe": Recipe(quantization_aware=QuantizationAware())}, "without quantization_aware"),
        ({"recipe": Recipe(model={"dropout": 0.1}, sizes=(48,))}, "without model and sizes"),
    ],
)
def test_what_cannot_be_learned_is_refused(base: Path, data: Path, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        train_task(base, data, data, tmp_path / "out", **{"task": "stripes", "device": "cpu", **options})
    assert not (tmp_path / "out").exists()


def test_networks_that_learn_no_tasks_are_refused(data: Path, tmp_path: Path) -> None:
    mobilevit = phone_checkpoint("mobilevit")
    save_checkpoint(mobilevit.model, mobilevit.spec, tmp_path / "mobilevit.safetensors")
    with pytest.raises(RequestError, match="on a ViT, DeiT or DeepViT with classes, not on networks of the family mob"):
        train_task(tmp_path / "mobilevit.safetensors", data, data, tmp_path / "out", task="stripes")
    vit = phone_checkpoint("vit")
    save_checkpoint(vit.model, vit.spec, tmp_path / "vit.safetensors")
    features = load_checkpoint(tmp_path / "vit.safetensors", features="pooled")
    with pytest.raises(RequestError, match="not on features"):
        train_task(features, data, data, tmp_path / "out", task="stripes")


def _run(data: Path, out: Path, *options: object) -> Result:
    arguments = ["train", "--data", data, "--test-share", "0.2", "--out", out, "--device", "cpu", "--threads", "1"]
    return CliRunner().invoke(main, [*map(str, arguments), *map(str, options)])


@pytest.mark.parametrize("base", ["vit"], indirect=True)
def test_the_command_writes_a_task_and_says_so(base: Path, data: Path, tmp_path: Path) -> None:
    options = ("--base", base, "--task", "stripes", "--memory", 3, "--epochs", 1, "--batch-size", 8, "--mean", "0.3")
    result = _run(data, tmp_path, *options, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["task"], document["classes"], document["test_images"]) == ("stripes", 5, 10)
    header = read_task(document["checkpoint"]).header
    assert (header.task.cells, header.preprocessing.mean) == (3, (0.3, 0.3, 0.3))
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["learning_rate"] == MEMORY_RECIPE.learning_rate
    assert "learning stripes on deit_tiny_distilled_patch16_224" in result.stderr


@pytest.mark.parametrize("base", ["vit"], indirect=True)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "a", "--model", "vit_tiny_patch16_224"], "a task learns on --base as it is, so leave out --model"),
        (["--task", "a", "--teacher", "t.pth", "--qat"], "so leave out --teacher and --qat"),
        (["--task", "a", "--checkpoint", "c.pth"], "so leave out --checkpoint"),
        (["--task", "a", "--image-size", "64"], "so leave out --image-size"),
        ([], "give --task"),
    ],
)
def test_the_command_refuses_what_does_not_go_with_a_base(
    base: Path, data: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = _run(data, tmp_path / "out", "--base", base, *options)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert message in result.stderr


@pytest.mark.parametrize("options", [["--task", "a"], ["--memory", "0"]])
def test_a_task_needs_a_base(data: Path, tmp_path: Path, options: list[str]) -> None:
    result = _run(data, tmp_path / "out", *options)
    assert result.exit_code == 2
    assert "give --base" in result.stderr
