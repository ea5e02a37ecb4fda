"""`mobilevit eval` over checkpoints and artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import REPOSITORY, tiny_model, tiny_spec
from labeled_images import encode, pictures, write_folder, write_parquet

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.default import default_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import open_dataset, to_model_input
from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.evaluation import measure
from mobilevit_sdk.formats import converter
from mobilevit_sdk.formats.converter import Inspection
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import task_of

CIFAR10 = REPOSITORY.parent / "shared" / "data" / "cifar10-test.parquet"


def test_answers_that_are_not_finite_are_said(tmp_path: Path) -> None:
    network, spec = tiny_model()
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(1e30)
    save_checkpoint(network, spec, tmp_path / "large.safetensors")
    folder = write_folder(tmp_path / "data", pictures(1))
    result = CliRunner().invoke(main, ["eval", str(tmp_path / "large.safetensors"), "--data", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    (note,) = json.loads(result.stdout)["notes"]
    assert "were answered with NaN or infinity" in note
    assert " ".join(result.stderr.split()).count("NaN or infinity") == 1


class _Echo:
    """A runtime that answers with the mean of each channel; `works` says whether this machine can run it."""

    format = "echo"

    def __init__(self, name: str, works: bool) -> None:
        self.name, self.works = name, works

    def availability(self) -> Availability:
        return Availability("1.0") if self.works else Availability(None, "not on this machine")

    def load(self, path: Path) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: np.append(image.mean((1, 2)), [0, 0])


class _EchoConverter:
    format, suffix = "echo", ".echo"

    def __init__(self, *runtimes: _Echo, spec: ModelSpec | None = None) -> None:
        self.runtimes, self.spec = runtimes, spec

    def inspect(self, path: Path) -> Inspection:
        return Inspection((), (), {}, 0, None, None, self.spec)


def _install(monkeypatch: pytest.MonkeyPatch, *runtimes: _Echo, spec: ModelSpec | None = None) -> None:
    monkeypatch.setattr(converter, "converters", lambda: {"echo": _EchoConverter(*runtimes, spec=spec)})
    monkeypatch.setattr(measure, "converters", converter.converters)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "a.echo").write_bytes(b"any")
    return tmp_path / "a.echo"


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    """Three red, two green and one blue image; the blue one lies among the red."""
    red = np.full((8, 8, 3), [200, 20, 10], np.uint8)
    shown_and_label = ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1), (2, 0))
    return write_folder(
        tmp_path / "colors", [(encode(np.roll(red, shown, 2)), label) for shown, label in shown_and_label]
    )


def test_artifact_is_measured_with_the_first_runtime_that_runs_here(
    monkeypatch: pytest.MonkeyPatch, artifact: Path, colors: Path
) -> None:
    _install(monkeypatch, _Echo("absent", False), _Echo("present", True), spec=tiny_spec())
    result = measure.measure(str(artifact), None, open_dataset(colors, labeled=True), 4)
    assert (result.runtime, result.accuracy.images) == ("present", 6)
    assert result.accuracy.top1 == pytest.approx(5 / 6)
    assert result.images_per_second > 0
    assert (
        measure.measure(str(artifact), "present", open_dataset(colors, labeled=True).sample(3), 4).accuracy.images == 3
    )


def test_runtime_that_does_not_run_here_says_why(monkeypatch: pytest.MonkeyPatch, artifact: Path, colors: Path) -> None:
    _install(monkeypatch, _Echo("absent", False), spec=tiny_spec())
    with pytest.raises(
        ToolchainError, match=r"no echo runtime that is available here can run a\.echo \(absent: not on this machine\)"
    ):
        measure.measure(str(artifact), None, open_dataset(colors, labeled=True), 4)


def test_runtime_of_another_format_is_refused(monkeypatch: pytest.MonkeyPatch, artifact: Path, colors: Path) -> None:
    _install(monkeypatch, _Echo("present", True), spec=tiny_spec())
    with pytest.raises(RequestError, match="echo has no runtime 'presnt'; did you mean present"):
        measure.measure(str(artifact), "presnt", open_dataset(colors, labeled=True), 4)
    with pytest.raises(RequestError, match="a checkpoint runs with pytorch, not 'present'"):
        measure.measure("a.safetensors", "present", open_dataset(colors, labeled=True), 4)


def test_artifact_without_a_spec_and_a_manifest_is_refused(
    monkeypatch: pytest.MonkeyPatch, artifact: Path, colors: Path
) -> None:
    _install(monkeypatch, _Echo("present", True))
    with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
        measure.measure(str(artifact), None, open_dataset(colors, labeled=True), 4)
    with pytest.raises(ArtifactError, match=r"missing\.echo does not exist"):
        measure.measure(str(artifact.with_name("missing.echo")), None, open_dataset(colors, labeled=True), 4)


def test_eval_of_a_checkpoint_prints_what_the_model_scores(tmp_path: Path) -> None:
    model, spec = tiny_model()
    save_checkpoint(model, spec, tmp_path / "a.safetensors")
    data = write_parquet(tmp_path / "a.parquet", pictures(20))

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(to_model_input(torch.from_numpy(images), spec.preprocessing)).numpy()

    expected = task_of(spec).measure(predict, open_dataset(data, labeled=True).sample(13))
    arguments = ["eval", str(tmp_path / "a.safetensors"), "--data", str(data), "--limit", "13", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document.pop("images_per_second") > 0
    assert document == {
        "target": str(tmp_path / "a.safetensors"),
        "runtime": "pytorch",
        "images": 13,
        "top1": expected.top1,
        "top5": expected.top5,
        "notes": [],
    }


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mobilevit_xxs", "is a model's name, not a checkpoint"),
        ("none.safetensors", "none.safetensors"),
        ("none.tflite", "none.tflite does not exist"),
    ],
)
def test_eval_of_nothing_is_one_line(tmp_path: Path, target: str, message: str) -> None:
    result = CliRunner().invoke(main, ["eval", target, "--data", str(write_folder(tmp_path, pictures(5)))])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.skipif(not CIFAR10.exists(), reason=f"{CIFAR10} is not there")
@pytest.mark.skipif(not default_checkpoint().exists(), reason="the default checkpoint is not there")
def test_default_checkpoint_has_the_accuracy_that_its_header_states() -> None:
    checkpoint = load_checkpoint(default_checkpoint())
    result = measure.measure(None, None, open_dataset(CIFAR10, labeled=True).sample(500), 100)
    assert result.accuracy.top1 == pytest.approx(checkpoint.spec.provenance["top1"], abs=0.05)
    assert result.accuracy.top1 > 0.8
