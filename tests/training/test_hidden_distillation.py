"""DearKD's early distillation: aligners, what they learn from, and a teacher that stops."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import tiny_networks
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from killed_training import stop_after_a_step
from labeled_images import NAMES, pictures, write_parquet
from torch import nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.training import Distillation, HiddenLayer, Recipe, TeacherNetwork, Trainer
from mobilevit_sdk.training.distillation import make_teacher
from mobilevit_sdk.training.hidden import Aligner, HiddenDistillation

CPU = torch.device("cpu")
PAIRS = (HiddenLayer(student="blocks.0", teacher="stages.0", weight=2.0),)
RECIPE = Recipe(
    epochs=3, batch_size=8, learning_rate=5e-3, distillation=Distillation(kind="hard", until=0.6, hidden=PAIRS)
)


def _spec(family: str, size: int = 32) -> ModelSpec:
    return msgspec.structs.replace(tiny_networks.tiny_spec(family, size), labels=NAMES)


def _teacher() -> Checkpoint:
    model, spec = tiny_networks.tiny_model("mobilevit", 32)
    return Checkpoint(model, msgspec.structs.replace(spec, labels=NAMES), "own", "teacher.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(20, size=32))


def _trainer(data: Path, out: Path, recipe: Recipe = RECIPE) -> Trainer:
    spec, dataset = _spec("dearkd"), open_dataset(data, labeled=True)
    torch.manual_seed(0)
    return Trainer(build_model(spec), spec, recipe, dataset, dataset, out, device=CPU, teacher=_teacher())


def test_an_aligner_is_a_projection_a_resize_a_depthwise_convolution_a_norm_over_channels_and_a_relu() -> None:
    torch.manual_seed(0)
    aligner, x = Aligner(6, 4), torch.randn(2, 6, 4, 4)
    wide = F.interpolate(torch.einsum("oi,bihw->bohw", aligner.project.weight[..., 0, 0], x), (7, 5), mode="bilinear")
    wide = wide + aligner.project.bias[:, None, None]
    padded = F.pad(wide, (1, 1, 1, 1))
    kernel = aligner.depthwise.weight[:, 0]
    near = [padded[:, :, i : i + 7, j : j + 5] * kernel[:, i, j, None, None] for i in range(3) for j in range(3)]
    y = torch.stack(near).sum(0) + aligner.depthwise.bias[:, None, None]
    expected = ((y - y.mean(1, keepdim=True)) / (y.var(1, correction=0, keepdim=True) + 1e-5).sqrt()).clamp(min=0)
    torch.testing.assert_close(aligner(x, (7, 5)), expected)
    assert aligner(x, (4, 4)).shape == (2, 4, 4, 4)


def test_hidden_layers_are_compared_with_the_teacher_s_in_the_order_of_the_patches() -> None:
    spec, student = _spec("dearkd"), tiny_networks.tiny_model("dearkd")[0]
    teacher = make_teacher(_teacher(), spec, CPU)
    hidden = HiddenDistillation(PAIRS, student, spec, teacher, CPU, 0)
    images = tiny_networks.noise(3, 3, 32, 32)
    with hidden.watch_teacher() as maps, hidden.watch_student() as own:
        teacher.scores(images)
        student(images)
    assert maps[0].ndim == 4
    tokens = own[0]
    patches = torch.stack([tokens[:, 2 + 4 * y + x] for y in range(4) for x in range(4)], 2).view(3, 20, 4, 4)
    (aligner,) = hidden.aligners
    expected = 2 * (aligner(patches, tuple(maps[0].shape[2:])) - maps[0]).square().mean()
    torch.testing.assert_close(hidden(own, maps, (32, 32)), expected)
    turned = hidden([tokens.flip(1)], maps, (32, 32))
    assert (turned - expected).abs() > 1e-4


def test_the_loss_of_hidden_layers_reaches_the_student_up_to_them_alone(data: Path, tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(
        RECIPE, clip_norm=1e6, distillation=Distillation(kind="hard", weight=1.0, hidden=PAIRS)
    )
    heavy = msgspec.structs.replace(PAIRS[0], weight=0.0)
    without = msgspec.structs.replace(recipe, distillation=Distillation(kind="hard", weight=1.0, hidden=(heavy,)))
    weights = []
    for name, each in (("with", recipe), ("without", without)):
        trainer = _trainer(data, tmp_path / name, each)
        stop_after_a_step(trainer)
        trainer.run()
        weights.append(dict(trainer.model.named_parameters()))
    moved = {name for name, value in weights[0].items() if not torch.equal(value, weights[1][name])}
    assert moved == {name for name in weights[0] if name.startswith(("tokens.", "blocks.0."))}


def test_aligners_learn_and_are_in_the_state_and_in_no_checkpoint(data: Path, tmp_path: Path) -> None:
    trainer = _trainer(data, tmp_path)
    first = {name: value.clone() for name, value in trainer.hidden.state_dict().items()}
    trainer.run()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["hidden"].keys() == first.keys()
    assert all(not torch.equal(state["hidden"][name], value) for name, value in first.items())
    assert not [name for name in load_checkpoint(tmp_path / "model.safetensors").model.state_dict() if "align" in name]


def test_a_training_of_two_stages_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    """Stopped after a step of the first stage and after the first of the second."""
    whole = _trainer(data, tmp_path / "whole")
    whole.run()
    resumed = 0
    while True:
        trainer = _trainer(data, tmp_path / "stopped")
        resumed += trainer.resumed
        if trainer.steps_done < 6:
            stop_after_a_step(trainer)
        if trainer.run() is not None:
            break
    assert resumed == 6
    for key in ("model", "average", "hidden"):
        one, other = (torch.load(tmp_path / name / "state.pt", weights_only=True)[key] for name in ("whole", "stopped"))
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_teacher_answers_in_its_share_of_the_training_alone(data: Path, tmp_path: Path) -> None:
    trainer = _trainer(data, tmp_path)
    asked: list[int] = []
    trainer.teacher.model.register_forward_hook(lambda *_: asked.append(trainer.steps_done))
    trainer.run()
    assert asked == [0, 1, 2, 3, 4]  # of nine steps, those that begin before 0.6 of the training
    assert trainer.steps_done == 9
    both = [name for name in ("linear", "linear_dist") if getattr(trainer.model.head, name).weight.grad is not None]
    assert both == ["linear", "linear_dist"]  # the last step taught both heads the labels


class _Plain(nn.Module):
    """Somebody's own network, whose first layer answers with a map and whose second does not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 7, 4, 4), nn.Linear(7, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(x).relu().mean((2, 3)))


def test_a_network_of_the_user_s_own_teaches_its_layers_too(data: Path, tmp_path: Path) -> None:
    spec, dataset = _spec("vit"), open_dataset(data, labeled=True)
    given = TeacherNetwork(randomize(_Plain(), 0), {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}, NAMES)
    pairs = (HiddenLayer(student="blocks.1", teacher="stem"),)
    recipe = msgspec.structs.replace(RECIPE, epochs=1, distillation=Distillation(hidden=pairs))
    trainer = Trainer(build_model(spec), spec, recipe, dataset, dataset, tmp_path, device=CPU, teacher=given)
    assert trainer.hidden.aligners[0].project.weight.shape == (7, 16, 1, 1)
    trainer.run()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("blocks.7", "stages.0"), r"vit_tiny.* has no layer 'blocks.7'; did you mean blocks\."),
        (("blocks.0", "stage.0"), r"the teacher mobilevit_xxs has no layer 'stage.0'; did you mean stages.0"),
        (("blocks.0", "head"), r"the teacher's layer head answers \[2, 5\], and hidden layers learn from maps"),
        (("head.linear", "stages.0"), r"the student's layer head.linear answers \[2, 5\], which are neither"),
    ],
)
def test_layers_that_are_not_there_or_answer_with_no_map_are_named(pair: tuple[str, str], message: str) -> None:
    spec, student = _spec("vit"), tiny_networks.tiny_model("vit")[0]
    spec = msgspec.structs.replace(spec, model="vit_tiny_patch16_224")
    with pytest.raises(RequestError, match=message):
        HiddenDistillation(
            [HiddenLayer(student=pair[0], teacher=pair[1])], student, spec, make_teacher(_teacher(), spec, CPU), CPU, 0
        )


def test_synthesized_images_are_trained_on_as_they_are_by_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DF-DearKD: the teacher alone, whose images the first command makes and whose layers the second learns from."""
    teacher = _teacher()
    save_checkpoint(teacher.model, teacher.spec, tmp_path / "teacher.safetensors")
    recipe = msgspec.structs.replace(RECIPE, epochs=1)
    (tmp_path / "recipe.json").write_bytes(msgspec.json.encode(recipe))
    sizes = [part for size in ("dim=20", "num_heads=5", "depth=2", "patch_size=8") for part in ("--set", size)]
    made = ["synthesize", "teacher.safetensors", "--images", "20", "--steps", "2", "--out", "made.parquet"]
    trained = ["train", "--model", "dearkd_tiny_patch16_224", *sizes, "--image-size", "32", "--data", "made.parquet"]
    trained += ["--teacher", "teacher.safetensors", "--recipe", "recipe.json", "--test-share", "0.25", "--out", "out"]
    monkeypatch.chdir(tmp_path)
    for arguments in (made, [*trained, "--device", "cpu"]):
        result = CliRunner().invoke(main, [*arguments, "--threads", "1"])
        assert result.exit_code == 0, result.stderr
    assert "hard labels of mobilevit_xxs and 1 of its layers for the first 60%" in result.stderr
    assert load_checkpoint(tmp_path / "out" / "model.safetensors").spec.labels == NAMES


def test_layers_of_several_teachers_are_refused() -> None:
    spec, student = _spec("vit"), tiny_networks.tiny_model("vit")[0]
    with pytest.raises(RequestError, match="learned from one teacher, and 2 are given"):
        HiddenDistillation(PAIRS, student, spec, make_teacher([_teacher(), _teacher()], spec, CPU), CPU, 0)
