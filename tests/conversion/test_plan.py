"""What a request asks for and does not get is said, with the format and the precision."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from helpers import tiny_model
from PIL import Image

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.conversion.plan import Conversion, plan_notes
from mobilevit_sdk.formats.converter import converters, find_converter, label
from mobilevit_sdk.formats.quantization import PRECISIONS


def plan(precisions, *names):
    chosen = [find_converter(name) for name in names or converters()]
    return [Conversion(each, p) for each in chosen for p in precisions if p in each.precisions]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_that_a_format_lacks_is_said_with_both_names(precision):
    notes = plan_notes(plan(["fp32", precision]), ["fp32", precision])
    lacking = {label(each) for each in converters().values() if precision not in each.precisions}
    assert {note.split(" has no ")[0] for note in notes} == lacking
    assert all(f" has no {precision} (" in note for note in notes)


def test_what_only_integers_use_is_said_when_none_are_made():
    for name in ("calibration", "recipe"):
        (note,) = plan_notes(plan(["fp32", "fp16"], "tflite"), ["fp32", "fp16"], **{name: "given"})
        assert note == f"`{name}` is for integer precisions and has no effect on fp32, fp16"
        assert plan_notes(plan(["fp32", "int8"], "tflite"), ["fp32", "int8"], **{name: "given"}) == []
    assert plan_notes(plan(["fp32"], "tflite"), ["fp32"]) == []


def test_the_command_says_it_in_options_before_it_converts(tmp_path, monkeypatch):
    """The folder cannot be written, so that nothing is converted."""
    for name in ("tflite", "executorch"):
        if not find_converter(name).availability():
            pytest.skip(f"needs the toolchain of {name}")
    save_checkpoint(*tiny_model(), tmp_path / "tiny.safetensors")
    (tmp_path / "recipe.json").write_text("{}")
    options = ["--to", "tflite,executorch", "--precision", "fp32,fp16", "--out", "/proc/nothing"]
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / "a.png")
    options += ["--recipe", str(tmp_path / "recipe.json"), "--calibration", str(tmp_path / "photos")]
    result = CliRunner().invoke(main, ["convert", str(tmp_path / "tiny.safetensors"), *options])
    assert "note: --recipe is for integer precisions and has no effect on fp32, fp16" in result.stderr
    assert "note: --calibration is for integer precisions" in result.stderr
    options[3] = "fp32,int8-weight"
    result = CliRunner().invoke(main, ["convert", str(tmp_path / "tiny.safetensors"), *options])
    assert "note: executorch has no int8-weight (int8-weight comes nearest in int8-dynamic)" in result.stderr
