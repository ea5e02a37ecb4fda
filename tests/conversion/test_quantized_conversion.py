"""A checkpoint converted to integers, judged by its task, accepted or set aside."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from click.testing import CliRunner
from helpers import tiny_model
from labeled_images import pictures, write_folder

from mobilevit_sdk.artifacts.artifact import REJECTED, find_artifacts, open_artifact
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.conversion.pipeline import convert
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.parity import THRESHOLDS, verify


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("images"), pictures(30))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model, spec = tiny_model()
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(model, spec, path)
    return path


@pytest.fixture(scope="module")
def made(made_with_steps):
    """The checkpoint in int8. Read only."""
    return made_with_steps[0]


@pytest.fixture(scope="module")
def made_with_steps(saved, images, tmp_path_factory):
    """The checkpoint in int8, and the steps that were told. Read only."""
    pytest.importorskip("litert_torch")
    steps = []
    result = convert(
        load_checkpoint(saved),
        out=tmp_path_factory.mktemp("out"),
        formats=["tflite"],
        precisions=["int8"],
        calibration=images,
        check=False,
        progress=steps.append,
    )
    return result, steps


def test_every_stage_is_told_and_images_are_counted(made_with_steps):
    _, steps = made_with_steps
    counts = {}
    for step in steps:
        counts.setdefault((step.task, step.stage), []).append((step.done, step.total))
    everyone, own = ("", "tflite int8")
    stages = [stage for task, stage in counts if task == own]
    assert stages == [
        "waiting",
        "import PyTorch",
        "deploy",
        "equalize channels",
        "correct biases",
        "audit",
        "import tflite's toolchain",
        "convert",
        "calibrate",
        "quantize",
        "inspect",
        "judge",
        "verify",
        "done",
    ]
    for place, total in (
        ((everyone, "reading images"), 10),
        ((own, "equalize channels"), 20),
        ((own, "correct biases"), 20),
        ((own, "judge"), 10),
    ):
        assert counts[place][-1] == (total, total), place
    assert counts[own, "calibrate"] == [(done, 20) for done in range(20)]


def test_the_manifest_says_with_what_it_was_quantized_and_how_well_it_does(made, images):
    assert made.failures == []
    (artifact,) = made.artifacts
    record = artifact.manifest.quantization
    assert record.recipe == QuantizationRecipe()
    assert (record.images, record.data_free, record.calibrated_with) == (images.name, False, 20)
    judged = record.judgment
    assert (judged.runtime, judged.images, judged.rejected) == ("litert-cpu", 10, False)
    assert judged.agreement >= judged.min_agreement > 0.9
    assert 10 < judged.worst_sqnr_db < judged.median_sqnr_db < 60
    assert judged.top1_float is not None
    assert judged.top1_drop == pytest.approx(100 * (judged.top1_float - judged.top1))
    assert open_artifact(artifact.path.parent).manifest.quantization == record


def stages_of(saved, images, out, **options):
    stages = []
    result = convert(
        load_checkpoint(saved),
        out=out,
        formats=["tflite"],
        precisions=["int8"],
        calibration=images,
        check=False,
        progress=lambda step: stages.append(step.stage),
        **options,
    )
    assert result.failures == []
    return stages


@pytest.mark.slow
def test_it_is_made_again_for_another_recipe_or_other_images_only(made, saved, images, tmp_path):
    out = made.artifacts[0].path.parent.parent
    assert "convert" not in stages_of(saved, images, out)
    assert "convert" in stages_of(saved, images, out, recipe=QuantizationRecipe(ranges="minmax"))
    others = write_folder(tmp_path / "others", pictures(30, seed=1))
    assert "convert" in stages_of(saved, others, out, recipe=QuantizationRecipe(ranges="minmax"))


@pytest.mark.slow
def test_it_is_made_again_for_another_share_of_the_task(made, saved, images):
    out = made.artifacts[0].path.parent.parent
    held_to = {"int8": msgspec.structs.replace(THRESHOLDS["int8"], task_agreement=0.95)}
    assert "judge" in stages_of(saved, images, out, thresholds=held_to)
    assert "judge" not in stages_of(saved, images, out, thresholds=held_to)


def test_what_does_its_task_too_badly_is_set_aside_with_exit_code_1(saved, images, tmp_path, monkeypatch):
    pytest.importorskip("litert_torch")
    unreachable = msgspec.structs.replace(THRESHOLDS["int8-weight"], task_sqnr_db=199.0)
    monkeypatch.setitem(THRESHOLDS, "int8-weight", unreachable)
    options = ["--to", "tflite", "--precision", "int8-weight", "--calibration", str(images), "--out", str(tmp_path)]
    done = CliRunner().invoke(main, ["convert", str(saved), *options])
    assert done.exit_code == 1, done.output
    folder = tmp_path / f"mobilevit_xxs-tflite-int8-weight{REJECTED}"
    assert f"rejected: {folder.name}: " in done.stdout
    assert re.search(r"^  SQNR \S+ dB of all images together is below 199 dB \(task_sqnr_db\)$", done.stdout, re.M)
    for words in ("\nnext: ", "quantize --search", "train --qat", "in [tool.mobilevit.parity.int8-weight]\n"):
        assert words in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    with pytest.raises(ArtifactError, match="holds no artifact"):  # `verify out/` passes it over ...
        find_artifacts([tmp_path])
    made = (folder / "manifest.json").stat().st_ino
    assert CliRunner().invoke(main, ["convert", str(saved), *options]).exit_code == 1
    assert (folder / "manifest.json").stat().st_ino == made  # it is up to date
    (named,) = find_artifacts([folder])  # ... unless it is named
    assert named.rejected
    (reason,) = named.reasons
    (verdict,) = verify([named], runtimes=["litert-cpu"])
    assert verdict.status == "failed"
    assert reason in verdict.reason


@pytest.mark.slow
def test_random_weights_are_calibrated_on_photographs_and_have_no_task(tmp_path):
    pytest.importorskip("litert_torch")
    _, spec = tiny_model()
    result = convert(
        random_checkpoint(spec, seed=0), out=tmp_path, formats=["tflite"], precisions=["int8"], check=False
    )
    assert result.failures == []
    record = result.artifacts[0].manifest.quantization
    assert record.images.endswith("photographs")
    assert record.judgment is None


def test_a_precision_that_a_format_cannot_express_names_the_nearest(saved, images, tmp_path):
    pytest.importorskip("executorch")
    with pytest.raises(RequestError, match=r"executorch has no int8-weight .*int8-dynamic"):
        convert(
            load_checkpoint(saved),
            out=tmp_path,
            formats=["executorch"],
            precisions=["int8-weight"],
            calibration=images,
        )


def test_quantize_writes_a_recipe_and_says_that_convert_would_reject_it(saved, images, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.mobilevit.parity.int8]\ntask_sqnr_db = 150\n")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "quantized"
    options = ["--calibration", str(images), "--search", "--size", "0.9", "--out", str(out)]
    done = CliRunner().invoke(main, ["quantize", str(saved), *options, "--json"])
    assert done.exit_code == 1, done.output  # what convert would reject reaches no goal
    document = json.loads(done.stdout)
    assert document["chosen"] is None
    assert document["points"][0]["agreement"] > 0.8
    (reason,) = document["expected"]["rejections"]
    assert re.fullmatch(r"SQNR \S+ dB of all images together is below 150 dB \(task_sqnr_db\)", reason)
    recipe = msgspec.json.decode((out / "recipe.json").read_bytes(), type=QuantizationRecipe)
    assert msgspec.json.decode(msgspec.json.encode(recipe)) == document["recipe"]
    assert (out / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    rows = msgspec.json.decode((out / "sensitivity.json").read_bytes())["losses"]
    assert [row["sqnr_db"] for row in rows] == sorted(row["sqnr_db"] for row in rows)


def test_quantize_refuses_a_precision_without_integers(saved):
    done = CliRunner().invoke(main, ["quantize", str(saved), "--precision", "int9"])
    assert done.exit_code == 2
    assert "int8" in done.stderr
