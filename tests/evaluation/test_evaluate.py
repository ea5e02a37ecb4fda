"""Counting of top-1 and top-5, matching of classes by name, and `mobilevit eval` over checkpoints and artifacts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import REPOSITORY, tiny_model, tiny_spec
from labeled_images import NAMES, encode, pictures, write_folder, write_parquet

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.default import default_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import ClassOrder, ImageDataset, open_dataset, to_model_input
from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.evaluation import measure
from mobilevit_sdk.evaluation.accuracy import (
    class_order_notes,
    match_answers,
    match_classes,
    measure_accuracy,
)
from mobilevit_sdk.formats import converter
from mobilevit_sdk.formats.converter import Inspection
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.spec import ModelSpec

CIFAR10 = REPOSITORY.parent / "shared" / "data" / "cifar10-test.parquet"


def _dataset(tmp_path: Path, labels: list[int], names: tuple[str, ...] | None = None) -> ImageDataset:
    encoded = pictures(1)[0][0]
    return ImageDataset(tmp_path, [f"row {i}" for i in range(len(labels))], lambda i: encoded, labels, names)


def _scores(*orders: tuple[int, ...], num_classes: int = 8) -> np.ndarray:
    """One row for each order: class indices from the highest score to the lowest of those named."""
    scores = np.zeros((len(orders), num_classes), np.float32)
    for row, order in zip(scores, orders, strict=True):
        row[list(order)] = np.arange(len(order), 0, -1)
    return scores


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_known_ranks_are_counted(tmp_path: Path, batch_size: int) -> None:
    answers = _scores((3, 1, 2, 4, 5), (1, 3, 2, 4, 5), (1, 2, 4, 5, 3), (1, 2, 4, 5, 6, 3), (3, 0, 1, 2, 4))
    rows = iter(answers)
    done: list[int] = []
    accuracy = measure_accuracy(
        lambda images: np.stack([next(rows) for _ in images]),
        tiny_spec(num_classes=8),
        _dataset(tmp_path, [3] * 5),
        batch_size=batch_size,
        progress=lambda step: done.append(step.done),
    )
    assert (accuracy.images, accuracy.top1, accuracy.top5) == (5, 2 / 5, 4 / 5)
    assert done[-1] == 5


def test_constant_scores_are_right_for_the_first_class_alone(tmp_path: Path) -> None:
    labels = list(range(8))
    accuracy = measure_accuracy(lambda x: np.ones((len(x), 8)), tiny_spec(num_classes=8), _dataset(tmp_path, labels))
    assert (accuracy.top1, accuracy.top5) == (1 / 8, 5 / 8)


def test_nan_is_never_right(tmp_path: Path) -> None:
    accuracy = measure_accuracy(
        lambda x: np.full((len(x), 8), np.nan), tiny_spec(num_classes=8), _dataset(tmp_path, [0, 1])
    )
    assert (accuracy.top1, accuracy.top5, accuracy.not_finite) == (0, 0, 2)


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


@pytest.mark.parametrize(("names", "yes"), [(None, 1), (("cat", "dog"), 1), (("class 0", "dog"), 0)])
def test_one_score_says_yes_or_no(tmp_path: Path, names: tuple[str, ...] | None, yes: int) -> None:
    spec = tiny_spec(num_classes=1)
    data = _dataset(tmp_path, [0, 1, 1, 0, 1], names)
    assert match_answers(data, spec).labels == [int(label == yes) for label in (0, 1, 1, 0, 1)]
    scores = np.array([[2.0], [3.0], [-1.0], [-1.0], [np.nan]])
    found = measure_accuracy(lambda images: scores[: len(images)], spec, data)
    assert found.top1 == found.top5 == 2 / 5


@pytest.mark.parametrize("labels", [[0, 0], [0, 1, 2]])
def test_one_score_needs_images_of_both_answers(tmp_path: Path, labels: list[int]) -> None:
    with pytest.raises(RequestError, match="one score, which says yes or no"):
        measure_accuracy(lambda images: np.ones((len(images), 1)), tiny_spec(num_classes=1), _dataset(tmp_path, labels))
    with pytest.raises(RequestError, match="nothing to choose between"):  # for those who train
        match_classes(_dataset(tmp_path, labels), tiny_spec(num_classes=1))


def test_predictor_gets_the_images_preprocessed_for_the_app(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def predict(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.zeros((len(images), 5))

    measure_accuracy(predict, tiny_spec(image_size=48), open_dataset(write_folder(tmp_path, pictures(3)), labeled=True))
    assert (seen[0].shape, seen[0].dtype) == ((3, 3, 48, 48), np.uint8)


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    dataset = open_dataset(write_folder(tmp_path, [p for p in pictures(10) if p[1] in (1, 4)]), labeled=True)
    assert dataset.labels == [0, 0, 1, 1]
    assert match_classes(dataset, tiny_spec()).labels == [1, 1, 4, 4]


def test_unknown_class_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"class 'class 7' that mobilevit_xxs lacks; did you mean class"):
        match_classes(_dataset(tmp_path, [0], ("class 7",)), tiny_spec())
    more = (*NAMES, "another")
    with pytest.raises(RequestError, match="class 'another' that mobilevit_xxs lacks"):
        match_classes(_dataset(tmp_path, [0, 5], more), tiny_spec())
    assert match_classes(_dataset(tmp_path, [0, 4], more), tiny_spec()).labels == [0, 4]  # no picture is of it


def test_classes_under_other_names_go_by_position_only_if_asked(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, [4, 0], tuple(f"n{i:08}" for i in range(5)))
    with pytest.raises(
        RequestError, match=r"no class of .* is one of mobilevit_xxs .*give `class_order=lexicographic`"
    ):
        match_classes(dataset, tiny_spec())
    assert match_classes(dataclasses.replace(dataset, class_order="lexicographic"), tiny_spec()).labels == [4, 0]


@pytest.mark.parametrize("order", [None, "lexicographic", "natural"])
def test_order_of_numbered_folders_is_said_where_nothing_decides_it(tmp_path: Path, order: ClassOrder | None) -> None:
    for number in range(1, 13):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.png").write_bytes(pictures(1)[0][0])
    dataset = open_dataset(tmp_path, class_order=order)
    assert dataset.class_names is not None
    assert dataset.class_names[1] == ("2" if order == "natural" else "10")
    unlabeled = msgspec.structs.replace(tiny_spec(num_classes=12), labels=None)
    notes = class_order_notes(dataset, unlabeled)
    if order is None:
        assert "lexicographic order (1, 10, 11 and 9 more)" in notes[0]
        assert "natural order (1, 2, 3 and 9 more), give `class_order=natural`" in notes[0]
    else:
        assert not notes
    assert not class_order_notes(dataset, msgspec.structs.replace(unlabeled, labels=dataset.class_names))


@pytest.mark.parametrize(
    ("labels", "names", "known", "found"),
    [
        ([0, 5], None, NAMES, 6),
        ([0], ("cat", "dog"), None, 2),  # without labels in the model, another number of classes cannot be its own
    ],
)
def test_wrong_number_of_classes_is_refused_with_both_counts(
    tmp_path: Path, labels: list[int], names: tuple[str, ...] | None, known: tuple[str, ...] | None, found: int
) -> None:
    spec = msgspec.structs.replace(tiny_spec(), labels=known)
    with pytest.raises(RequestError, match=f"has {found} classes, but the head of mobilevit_xxs has 5"):
        match_classes(_dataset(tmp_path, labels, names), spec)


def test_unlabeled_data_cannot_be_evaluated(tmp_path: Path) -> None:
    dataset = dataclasses.replace(_dataset(tmp_path, [0]), labels=None)
    with pytest.raises(RequestError, match="has no labels"):
        measure_accuracy(lambda x: x, tiny_spec(), dataset)


def test_parquet_and_folder_of_the_same_images_agree(tmp_path: Path) -> None:
    images = pictures(20)
    weights = np.random.default_rng(0).normal(size=(3 * 32 * 32, 5))

    def predict(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1) @ weights

    folder = measure_accuracy(
        predict, tiny_spec(), open_dataset(write_folder(tmp_path / "folder", images), labeled=True)
    )
    parquet = measure_accuracy(
        predict, tiny_spec(), open_dataset(write_parquet(tmp_path / "a.parquet", images), labeled=True)
    )
    assert folder == parquet
    assert 0 < folder.top1 < 1


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

    expected = measure_accuracy(predict, spec, open_dataset(data, labeled=True).sample(13))
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
