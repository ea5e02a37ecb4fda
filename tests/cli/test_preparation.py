"""The options that say how a checkpoint is fed: the same in every command that opens one, checked before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from golden.make import FOLDER
from golden.reference import release_weights, save_as_published
from tiny_networks import tiny_model

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.conversion import pipeline
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.converter import find_converter

OPTIONS = {"--windows", "--preprocessing", "--resize", "--interpolation", "--channel-order", "--mean", "--std"}
COMMANDS = ("convert", "prune", "quantize", "synthesize", "export", "inspect", "eval", "train")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(*tiny_model("mobilevit", 64), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_opens_a_checkpoint_takes_them(name: str) -> None:
    command = main.get_command(None, name)  # type: ignore[arg-type, attr-defined]
    found = {option for parameter in command.params for option in parameter.opts}
    assert found >= OPTIONS | {"--image-size"}
    assert ("--license" in found) == (name not in ("eval", "train"))


def test_what_is_asked_for_is_what_inspect_says(checkpoint: Path) -> None:
    options = ("--image-size", "96x128", "--mean", "0.5", "--std", "0.1,0.2,0.3", "--channel-order", "rgb")
    result = run(
        "inspect", checkpoint, *options, "--resize", 144, "--interpolation", "bicubic", "--license", "MIT", "--json"
    )
    document = json.loads(result.stdout)
    assert document["preprocessing"] == {
        "image_size": [96, 128],
        "resize_size": 144,
        "resize_mode": "shorter",
        "interpolation": "bicubic",
        "channel_order": "rgb",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.1, 0.2, 0.3],
    }
    assert document["license"] == "MIT"
    assert document["preprocessing_source"].startswith("image_size, ")
    assert "mean, std" in document["preprocessing_source"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--mean", "123.675,116.28,103.53"), "divide mean and std by 255 (mean 0.485, 0.456, 0.406)"),
        (("--std", "58.395,57.12,57.375"), "divide it by 255 (0.229, 0.224, 0.225)"),
        (("--mean", "1,2"), "'1,2' is not a number, or three such as 0.485,0.456,0.406"),
        (("--std", "0"), "std must be positive"),
        (("--image-size", "64x"), "'64x' is not a size from 32 to 4096 pixels"),
        (("--image-size", "16"), "'16' is not a size from 32 to 4096 pixels"),
        (("--resize", "big"), "'big' is neither a number of pixels nor 'squash'"),
        (("--resize", "32"), "a shorter side of 32 pixels does not hold the crop"),
        (("--preprocessing", "none.json"), "none.json does not exist; give a preprocessor_config.json"),
    ],
)
def test_what_makes_no_sense_is_refused_with_advice(checkpoint: Path, options: tuple[str, ...], complaint: str) -> None:
    result = run("inspect", checkpoint, *options)
    assert result.exit_code == 2
    assert complaint in " ".join(result.stderr.split())


def test_convert_says_what_it_assumes_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it converts, which it does not do here."""

    def stop(*arguments: object, **options: object) -> None:
        raise RequestError("stopped")

    if not find_converter("tflite").availability():
        pytest.skip("needs the toolchain of tflite")
    monkeypatch.setattr(pipeline, "convert", stop)
    foreign = save_as_published(tmp_path, "timm", release_weights("mobilevit", "timm"))
    arguments = ("convert", foreign, "--to", "tflite", "--out", tmp_path / "out")
    said = " ".join(run(*arguments).stderr.split())
    assert "images: shorter side to 284 (bicubic), center 256x256, RGB (the timm release of mobilevit_xxs)" in said
    assert "license: unknown; --license states it" in said
    stated: Any = json.loads((FOLDER / "configs.json").read_text())["timm"]["mobilevit_xxs"]
    (tmp_path / "images.json").write_text(json.dumps(stated))
    said = " ".join(run(*arguments, "--preprocessing", tmp_path / "images.json", "--mean", 0.25).stderr.split())
    assert "mean [0.25, 0.25, 0.25], std [1.0, 1.0, 1.0] (mean as asked for; the rest: images.json)" in said


def test_artifacts_and_fresh_networks_have_nothing_to_decide(checkpoint: Path, tmp_path: Path) -> None:
    for command in (("inspect", tmp_path), ("eval", tmp_path, "--data", tmp_path)):
        result = run(*command, "--mean", 0.5)
        assert result.exit_code == 2
    train = ("train", "--data", tmp_path, "--test-data", tmp_path, "--out", tmp_path / "out")
    result = run(*train, "--mean", 0.5)
    assert result.exit_code == 2
    assert "say how --checkpoint was trained: give it" in " ".join(result.stderr.split())
