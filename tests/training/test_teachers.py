"""Teachers from everywhere: what they are shown, which are refused, and ensembles that average probabilities."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import CliRunner
from helpers import tiny_model, tiny_spec
from labeled_images import pictures, write_parquet
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.spec import Preprocessing
from mobilevit_sdk.training import Distillation, Recipe, TeacherNetwork, open_teacher, train
from mobilevit_sdk.training.distillation import make_teacher

CPU = torch.device("cpu")
STUDENT = tiny_spec(image_size=40)
PREPARED = {"image_size": [24, 32], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "channel_order": "bgr"}
CODE = """
import torch
from torch import nn
from beside import CLASSES

class Mean(nn.Module):
    preprocessing = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    labels = tuple(f"class {i}" for i in reversed(range(CLASSES)))

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.head(x.mean((2, 3)))

def teacher():
    torch.manual_seed(0)
    return Mean()

def unprepared():
    return nn.Linear(3, 5)

def broken():
    raise OSError("no weights\\nhere")
"""


class Seen(nn.Module):
    """Answers with what it was shown: the mean of each channel, and the two sides in pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("offset", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        sides = torch.tensor([float(side) for side in x.shape[2:]]).expand(len(x), 2) + self.offset
        return torch.cat([self.weight * x.mean((2, 3)), sides], 1)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("CLASSES = 5\n")
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path / "mine.py"


def _checkpoint(seed: int, **changes: object) -> Checkpoint:
    model, spec = tiny_model(seed, image_size=40)
    return Checkpoint(model, msgspec.structs.replace(spec, **changes), "own", f"teacher{seed}.safetensors")


def test_a_module_sees_the_pixels_of_the_student_at_its_own_size_and_normalization() -> None:
    color = torch.rand(2, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    scores = make_teacher(TeacherNetwork(Seen(), PREPARED), STUDENT, CPU).scores(color.expand(2, 3, 40, 40))
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    expected = (color[:, [2, 1, 0], 0, 0] - mean) / std
    torch.testing.assert_close(scores, torch.cat([expected, torch.tensor([[24.0, 32.0]] * 2)], 1))
    as_it_comes = make_teacher(TeacherNetwork(Seen(), {}), STUDENT, CPU).scores(color.expand(2, 3, 36, 44))
    assert as_it_comes[0, 3:].tolist() == [36, 44]


def test_weights_buffers_and_preprocessing_are_the_identity_of_a_module() -> None:
    def identity(network: nn.Module, prepared: dict | Preprocessing = PREPARED) -> str:
        return make_teacher(TeacherNetwork(network, prepared), STUDENT, CPU).sha256

    weight, buffer = Seen(), Seen()
    weight.weight.data += 1e-6
    buffer.offset += 1
    whole = Preprocessing(**{**PREPARED, "image_size": (24, 32), "resize_size": 24})
    assert identity(Seen()) == identity(Seen()) == identity(Seen(), whole)
    assert len({identity(each) for each in (Seen(), weight, buffer)} | {identity(Seen(), {})}) == 4


def test_an_ensemble_averages_the_probabilities_of_its_networks_in_the_order_of_the_student() -> None:
    labels = STUDENT.labels
    assert labels is not None
    turned = TeacherNetwork(Seen(), {"image_size": 24}, labels=labels[::-1])
    members = [_checkpoint(1), _checkpoint(2), turned]
    images = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    together = make_teacher(members, STUDENT, CPU)
    alone = [make_teacher(each, STUDENT, CPU) for each in members]
    expected = sum(each.scores(images).softmax(1) for each in alone) / 3
    torch.testing.assert_close(together.scores(images).softmax(1), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together.scores(images).exp(), expected, atol=1e-6, rtol=1e-5)
    assert alone[2].scores(images)[:, 0].tolist() == [24, 24, 24]  # the last of its own
    assert together.sha256 not in {each.sha256 for each in alone}
    assert together.provenance["mean_of"][0]["source"] == "teacher1.safetensors"
    assert make_teacher(members[:1], STUDENT, CPU).sha256 == alone[0].sha256


@pytest.mark.parametrize("from_file", [True, False], ids=["file", "module"])
def test_code_of_the_user_makes_a_teacher(code: Path, monkeypatch: pytest.MonkeyPatch, from_file: bool) -> None:
    monkeypatch.chdir(code.parent)
    opened = open_teacher(f"python:{code}:teacher" if from_file else "python:mine:teacher")
    assert isinstance(opened, TeacherNetwork)
    teacher = make_teacher(opened, STUDENT, CPU)
    color = torch.rand(2, 3, 1, 1)
    torch.manual_seed(0)
    expected = nn.Linear(3, 5)((color[:, :, 0, 0] - 0.5) / 0.25).flip(1)  # its labels are those of the student, turned
    torch.testing.assert_close(teacher.scores(color.expand(2, 3, 40, 40)), expected.detach())
    assert teacher.provenance["source"] == ("mine.py:teacher" if from_file else "mine:teacher")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("python:mine.py", "names no function"),
        ("python:absent.py:teacher", "absent.py does not exist"),
        ("python:absent_package.absent:teacher", "No module named 'absent_package'"),
        ("python:mine.py:other", "no attribute 'other'"),
        ("python:mine.py:unprepared", "an nn.Module without an attribute `preprocessing`"),
        ("python:mine.py:broken", "OSError: no weights here$"),
        ("absent.safetensors", "does not exist"),
    ],
)
def test_what_makes_no_teacher_is_refused_in_a_line(
    code: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(code.parent)
    with pytest.raises(RequestError, match=message) as caught:
        open_teacher(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "prepared", "message"),
    [
        (Seen(), {"imagesize": 24}, "has no field 'imagesize'; did you mean image_size"),
        (Seen(), {"mean": [0.5]}, "preprocessing of the teacher Seen is wrong"),
        (Seen(), {"image_size": 0}, "must be positive"),
        (nn.Conv2d(3, 5, 1), {}, r"scores \[2, classes\], and answers with a tensor of shape \[2, 5, 40, 40\]"),
        (nn.Linear(3, 5), {}, r"fails on images \[2, 3, 40, 40\]: RuntimeError"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4800, 4)), {}, "has 4 classes, but mobilevit_xxs is to learn 5"),
    ],
)
def test_networks_that_cannot_teach_are_refused(network: nn.Module, prepared: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_teacher(TeacherNetwork(network, prepared), STUDENT, CPU)


def test_a_bare_network_is_asked_how_its_images_are_prepared() -> None:
    with pytest.raises(RequestError, match="wrap it in a TeacherNetwork"):
        open_teacher(Seen())  # type: ignore[arg-type]


def test_a_missing_timm_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(RequestError, match="timm:resnet18 needs timm, which is not installed"):
        open_teacher("timm:resnet18")


def test_a_model_of_timm_teaches_with_the_weights_of_a_file(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    from safetensors.torch import save_file

    network = timm.create_model("test_resnet", num_classes=5).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    opened = open_teacher(f"timm:test_resnet={tmp_path / 'weights.safetensors'}")
    assert isinstance(opened, TeacherNetwork)
    assert opened.image_size == tuple(network.pretrained_cfg["input_size"][1:])
    teacher = make_teacher(opened, STUDENT, CPU)
    images = torch.rand(2, 3, *opened.image_size)
    mean, std = (torch.tensor(network.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(teacher.scores(images), network((images - mean) / std), atol=1e-5, rtol=1e-4)
    assert teacher.provenance["source"] == "weights.safetensors"
    with pytest.raises(RequestError, match="has no model 'resnet19'; did you mean"):
        open_teacher("timm:resnet19")


def test_a_training_learns_from_several_and_knows_them_again(code: Path, tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "a.parquet", pictures(16))
    checkpoint = _checkpoint(3)
    save_checkpoint(checkpoint.model, checkpoint.spec, tmp_path / "student.safetensors")
    recipe = Recipe(epochs=1, batch_size=8, distillation=Distillation(weight=1.0))
    (tmp_path / "recipe.json").write_bytes(msgspec.json.encode(recipe))
    student, out = tmp_path / "student.safetensors", tmp_path / "out"
    arguments = ["train", "--checkpoint", student, "--data", data, "--test-data", data, "--out", out]
    arguments += ["--recipe", tmp_path / "recipe.json", "--device", "cpu", "--threads", 1, "--teacher", student]
    result = CliRunner().invoke(main, [*map(str, arguments), "--teacher", f"python:{code}:teacher"])
    assert result.exit_code == 0, result.stderr
    assert "soft labels of mobilevit_xxs + mine.py:teacher" in result.stderr
    written = load_checkpoint(out / "model.safetensors").spec.provenance["teacher"]["mean_of"]
    assert [each["model"] for each in written] == ["mobilevit_xxs", "Mean"]
    assert written[1]["sha256"] == make_teacher(open_teacher(f"python:{code}:teacher"), STUDENT, CPU).sha256
    with pytest.raises(RequestError, match="its teacher differs"):
        train(data, data, out, checkpoint=student, teacher=student, recipe=recipe, device="cpu")
