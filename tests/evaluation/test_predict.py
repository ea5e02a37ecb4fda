"""The best classes of single images: ranks, probabilities, orientation, broken files, and `mobilevit predict`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import tiny_model, tiny_spec
from labeled_images import pictures
from made_once import in_this_process
from PIL import Image
from terminal import in_terminal
from tiny_networks import phone_checkpoint

from mobilevit_sdk import predict, save_checkpoint
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import crop_image, to_model_input
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation import measure
from mobilevit_sdk.evaluation.predict import NOT_FINITE, ranked_classes
from mobilevit_sdk.evaluation.predict_chart import write_predictions_chart
from mobilevit_sdk.formats.converter import find_converter


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(*tiny_model(), path)
    return path


@pytest.fixture(scope="module")
def checkpoint(checkpoint_file: Path) -> Checkpoint:
    return load_checkpoint(checkpoint_file)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, (encoded, _) in zip(paths, pictures(3), strict=True):
        path.write_bytes(encoded)
    return paths


def _in_process(*arguments: object) -> tuple[int, str, str]:
    with in_this_process():
        done = CliRunner().invoke(main, ["predict", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_classes_are_those_of_pytorch_with_the_shares_of_their_softmax(
    checkpoint: Checkpoint, files: list[Path]
) -> None:
    found = predict(files, checkpoint, top=3)
    assert [each.image for each in found.predictions] == [str(file) for file in files]
    for file, prediction in zip(files, found.predictions, strict=True):
        image = crop_image(Image.open(file), checkpoint.spec.preprocessing)
        with torch.inference_mode():
            scores = checkpoint.model(to_model_input(torch.from_numpy(image)[None], checkpoint.spec.preprocessing))[0]
        best = scores.softmax(0).topk(3)
        assert [each.index for each in prediction.classes] == best.indices.tolist()
        assert [each.probability for each in prediction.classes] == pytest.approx(best.values.tolist(), rel=1e-5)
        assert [each.label for each in prediction.classes] == [f"class {i}" for i in best.indices.tolist()]


def test_fewer_classes_than_asked_for_are_all_of_them_and_no_class_is_a_mistake(
    checkpoint: Checkpoint, files: list[Path]
) -> None:
    (one,) = predict(files[0], checkpoint, top=9).predictions
    assert len(one.classes) == 5
    assert sum(each.probability for each in one.classes) == pytest.approx(1)
    with pytest.raises(RequestError, match="`top` counts classes, from 1 on"):
        predict(files, checkpoint, top=0)


def test_one_score_is_a_probability_and_a_class_without_label_has_its_index() -> None:
    spec = msgspec.structs.replace(tiny_spec(num_classes=1), labels=None)
    (yes,) = ranked_classes(np.array([2.0], np.float32), spec, 5)
    assert (yes.name, yes.probability) == ("class 0", pytest.approx(1 / (1 + np.exp(-2))))


def test_scores_that_are_not_finite_are_no_classes() -> None:
    assert ranked_classes(np.array([1.0, np.inf, 0, 0, 0]), tiny_spec(), 5) == ()
    huge = ranked_classes(np.array([3e38, -3e38, 0, 0, 0], np.float32), tiny_spec(), 2)
    assert [each.probability for each in huge] == [1, 0]


def test_a_turned_photo_is_answered_as_it_is_seen(checkpoint: Checkpoint, files: list[Path]) -> None:
    upright = Image.open(files[1])
    turned, exif = upright.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[274] = 6
    turned.save(lying := files[1].with_name("lying.png"))
    turned.save(tagged := files[1].with_name("tagged.png"), exif=exif)
    seen, tilted, corrected = predict([files[1], lying, tagged], checkpoint).predictions
    assert corrected.classes == seen.classes != tilted.classes


def test_a_folder_stands_for_the_pictures_in_it(checkpoint: Checkpoint, files: list[Path]) -> None:
    (files[0].parent / "notes.txt").write_text("not a picture")
    found = predict(files[0].parent, checkpoint)
    assert [Path(each.image).name for each in found.predictions] == ["0.png", "1.png", "2.png"]
    assert any("1 file not read: 1 .txt" in note for note in found.notes)


def test_what_cannot_be_read_is_named_and_stops_no_other(checkpoint_file: Path, files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:100])
    code, out, err = _in_process(*files, "gone.jpg", "--checkpoint", checkpoint_file, "--json")
    document = json.loads(out)
    assert code == 2
    assert [bool(each["classes"]) for each in document["predictions"]] == [True, False, True, False]
    assert document["predictions"][3]["problem"] == "no such file"
    assert f"error: {files[1]}: cannot be decoded" in err.replace("\n", " ")


def test_a_network_that_answers_nan_is_an_error_of_its_own(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch, checkpoint_file: Path
) -> None:
    monkeypatch.setattr(measure, "network_predictor", lambda model, spec: lambda x: np.full((len(x), 5), np.nan))
    code, _, err = _in_process(files[0], "--checkpoint", checkpoint_file, "--picture", tmp_path / "p.png")
    assert (code, NOT_FINITE in err.replace("\n", " ")) == (3, True)
    assert "p.png is not written" in err.replace("\n", " ")


def test_features_are_refused(checkpoint: Checkpoint, files: list[Path]) -> None:
    spec = msgspec.structs.replace(checkpoint.spec, labels=None, features="pooled")
    with pytest.raises(RequestError, match="a prediction needs class scores, but this mobilevit_xxs returns features"):
        predict(files, dataclasses.replace(checkpoint, spec=spec))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--artifact", "x.tflite", "--checkpoint", "y.pth"), "either --artifact or --checkpoint answers"),
        (("--artifact", "y.pth"), "y.pth is not a phone file, nor the folder of one; --checkpoint takes"),
        (("--artifact", "gone.tflite"), "gone.tflite does not exist"),
        (("--runtime", "litert-cpu"), "a checkpoint runs with pytorch, not 'litert-cpu'"),
    ],
)
def test_a_wrong_request_is_one_line(arguments: tuple[str, ...], message: str, files: list[Path]) -> None:
    code, _, err = _in_process(files[0], *arguments)
    assert code == 2
    assert message in err.replace("\n", " ")


def test_a_runtime_that_answers_the_precision_wrongly_is_refused(
    tflite: Artifact, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = next(each for each in find_converter("tflite").runtimes if each.name == "litert-gpu")
    monkeypatch.setattr(type(runtime), "refuses", {"fp32": "it is wrong"})
    code, _, err = _in_process(files[0], "--artifact", tflite.path, "--runtime", "litert-gpu")
    assert (code, "litert-gpu does not run mobilevit_xxs.tflite" in err.replace("\n", " ")) == (2, True)


@pytest.fixture(scope="module")
def tflite(phone_files) -> Artifact:  # type: ignore[no-untyped-def]
    pytest.importorskip("ai_edge_litert")
    artifact: Artifact = phone_files.artifact("tflite", "fp32")
    return artifact


def test_a_phone_file_answers_as_its_checkpoint_and_fits_a_terminal(
    tflite: Artifact, files: list[Path], tmp_path: Path
) -> None:
    expected = predict(files, phone_checkpoint("mobilevit"))
    found = predict(files, tflite)  # in a child process
    assert found.runtime == "litert-cpu"
    for one, other in zip(expected.predictions, found.predictions, strict=True):
        assert [each.label for each in one.classes] == [each.label for each in other.classes]
        assert [each.probability for each in one.classes] == pytest.approx(
            [each.probability for each in other.classes], abs=1e-4
        )
    picture = tmp_path / "p.png"
    assert write_predictions_chart(found, picture) == []
    assert np.asarray(Image.open(picture).convert("RGB")).std() > 10
    shown = in_terminal(80, "predict", str(files[0]), "--artifact", str(tflite.path), "--top", "2").splitlines()
    assert max(len(line) for line in shown[-2:]) <= 80
    assert [line.split()[-2:] for line in shown[-2:]] == [
        each.name.split() for each in found.predictions[0].classes[:2]
    ]
