"""The Android app's own code on the JVM: from a photograph to the SDK's answer, from a phone file to its verdict."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from artifact_kinds import write_kinds
from click.testing import CliRunner
from made_once import in_this_process
from PIL import ExifTags, Image
from tiny_networks import phone_checkpoint

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.checkpoints.default import default_checkpoint
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data.cases import photographs
from mobilevit_sdk.data.pictures import decode_picture
from mobilevit_sdk.data.preprocessing import crop_image
from mobilevit_sdk.demos import demo_folder
from mobilevit_sdk.parity.device import SUFFIX
from mobilevit_sdk.spec import nearest_size

pytestmark = pytest.mark.slow
RUNTIMES = {"tflite": "litert-cpu", "executorch": "executorch"}
FORMATS = tuple(RUNTIMES)


@pytest.fixture(scope="module")
def maven() -> str:
    found = shutil.which("mvn")
    if found is None or shutil.which("javac") is None:
        pytest.skip("needs Maven and a JDK: apt-get install maven openjdk-17-jdk-headless")
    return found


@pytest.fixture(scope="module")
def artifacts(maven, tmp_path_factory) -> dict[str, Artifact]:
    """The default's, by format."""
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("executorch")
    with in_this_process():
        result = convert(default_checkpoint(), out=tmp_path_factory.mktemp("artifacts"), formats=FORMATS, check=False)
    return {artifact.manifest.format: artifact for artifact in result.artifacts}


@pytest.fixture(scope="module")
def several(artifacts, tmp_path_factory) -> dict[str, Artifact]:
    """Files of three input sizes, by format."""
    sizes = ((64, 64), (64, 96), (96, 64))
    spec, _ = Preparation(image_sizes=sizes).apply(phone_checkpoint("vit").spec, trained=False)
    checkpoint = random_checkpoint(spec, 8)
    with in_this_process():
        result = convert(checkpoint, out=tmp_path_factory.mktemp("several"), formats=FORMATS, check=False)
    return {artifact.manifest.format: artifact for artifact in result.artifacts}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Photographs without loss, upright and turned, and one as its camera's JPEG; the EXIF orientation in the name."""
    folder = tmp_path_factory.mktemp("photographs")
    china, flower = photographs()
    decode_picture(china.read_bytes()).save(folder / "china-1.png")
    decode_picture(china.read_bytes()).crop((100, 0, 400, 427)).save(folder / "tower-1.png")
    turned = decode_picture(flower.read_bytes()).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned.save(folder / "flower-6.png", exif=exif)
    shutil.copy(china, folder / "china_photo-1.jpg")
    return folder


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, Artifact]:
    return write_kinds(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def out(maven, artifacts, several, kinds, pictures, tmp_path_factory) -> Path:
    """What the app's test on the JVM leaves: a device report and a summary of each artifact."""
    source, folder = tmp_path_factory.mktemp("android") / "demo", tmp_path_factory.mktemp("out")
    shutil.copytree(demo_folder("android_demo"), source, ignore=shutil.ignore_patterns("target", "build"))
    properties = {
        "artifacts": os.pathsep.join(str(each.path.parent) for each in (*artifacts.values(), *several.values())),
        "kinds": next(iter(kinds.values())).path.parents[1],
        "photographs": pictures,
        "python": sys.executable,
        "engine": source / "desktop_engine.py",
        "out": folder,
    }
    command = [maven, "--batch-mode", "--offline", "--quiet", "--projects", "core", "test", "-Dtest=EndToEndTest"]
    command += [f"-Dmobilevit.{name}={value}" for name, value in properties.items()]
    run = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=3600, check=False)
    if "in offline mode" in run.stdout:
        pytest.skip("needs what Maven downloads once: run `make android`")
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def verify(artifact: Artifact, report: Path) -> tuple[int, dict]:
    """The exit code of `mobilevit verify`, and its only verdict."""
    arguments = ["verify", artifact.path, "--runtime", "device", "--device-report", report, "--json"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    (verdict,) = json.loads(result.stdout)["verdicts"]
    return result.exit_code, verdict


def read_summary(out: Path, artifact: Artifact) -> dict:
    return json.loads((out / f"{artifact.path.parent.name}.json").read_text())


@pytest.mark.parametrize("format", FORMATS)
def test_the_app_answers_photographs_as_the_sdk_does(format, artifacts, pictures, out) -> None:
    artifact = artifacts[format]
    spec, answer = artifact.manifest.spec, artifact.on(RUNTIMES[format]).load()
    found = read_summary(out, artifact)["photographs"]
    assert sorted(found) == sorted(path.name for path in pictures.iterdir())
    for path in pictures.iterdir():
        expected = answer(crop_image(decode_picture(path.read_bytes()), spec.preprocessing))
        assert found[path.name]["top1"] == spec.labels[int(expected.argmax())]
        # Java's JPEG decoder differs from Pillow's in the last bits; what was stored without loss is the same.
        tolerance = 0.05 if path.suffix == ".jpg" else 1e-5
        np.testing.assert_allclose(found[path.name]["scores"], expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("format", FORMATS)
def test_each_photograph_runs_in_the_entry_that_it_takes(format, several, pictures, out) -> None:
    artifact = several[format]
    spec, answer = artifact.manifest.spec, artifact.on(RUNTIMES[format]).load()
    found = read_summary(out, artifact)["photographs"]
    taken = set()
    for path in pictures.glob("*.png"):
        picture = decode_picture(path.read_bytes())
        place = spec.sizes.index(nearest_size(*picture.size, spec.sizes))
        expected = answer(crop_image(picture, spec.entries[place].preprocessing))
        np.testing.assert_allclose(found[path.name]["scores"], expected, atol=1e-5 * np.abs(expected).max())
        taken.add(place)
    assert taken == {1, 2}  # across and upright


@pytest.mark.parametrize("format", FORMATS)
def test_the_gate_passes_the_report_of_every_entry(format, several, out) -> None:
    artifact = several[format]
    report = out / f"{artifact.path.parent.name}{SUFFIX}"
    code, verdict = verify(artifact, report)
    assert (code, verdict["status"]) == (0, "passed")
    (run,) = json.loads(report.read_bytes())["runs"]
    assert len(run["cases"]) == len(artifact.reference().cases)
    names = [entry.name for entry in artifact.manifest.entries]
    assert [entry["name"] for entry in run["latency"]["entries"]] == names


@pytest.mark.parametrize("format", FORMATS)
def test_the_gate_passes_the_apps_device_report(format, artifacts, out) -> None:
    artifact = artifacts[format]
    report = out / f"{artifact.path.parent.name}{SUFFIX}"
    code, verdict = verify(artifact, report)
    assert (code, verdict["status"], verdict["cases"]) == (0, "passed", 27)
    preview = read_summary(out, artifact)["verdict"]
    assert preview["passed"]
    assert preview["cases"] == verdict["cases"]
    assert preview["top1_agreement"] == verdict["top1_agreement"] == 1
    assert preview["worst"] == pytest.approx(verdict["sqnr_db"]["worst"], abs=0.01)
    assert preview["median"] == pytest.approx(verdict["sqnr_db"]["median"], abs=0.01)
    assert preview["max_abs_diff"] == pytest.approx(verdict["max_abs_diff"], rel=0.01)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_the_runtime_refuses_fails_the_gate_with_the_reason(format, artifacts, out) -> None:
    artifact = artifacts[format]
    report = out / f"refused-{artifact.path.parent.name}{SUFFIX}"
    code, verdict = verify(artifact, report)
    assert code != 0
    assert verdict["status"] == "error"
    assert len(verdict["reason"]) > 20


def test_the_app_reads_every_kind_of_artifact_or_says_why_not(kinds, out) -> None:
    found = json.loads((out / "kinds.json").read_text())
    refused = {name: found.pop(name)["refused"] for name in kinds if name.startswith("other")}
    assert "executorch for coreml does not run on Android" in refused["other system"]
    assert "coreml does not run on Android" in refused["other format"]
    assert "does not take one image" in refused["other input"]
    for name, read in found.items():
        manifest, reference = kinds[name].manifest, kinds[name].reference()
        preprocessing = manifest.spec.preprocessing
        squash = preprocessing.resize_mode == "squash"
        side = min(preprocessing.image_size) if squash else preprocessing.resize_size
        assert read == {
            "output": manifest.spec.outputs[0].name,
            "labels": manifest.spec.labels and list(manifest.spec.labels),
            "rejections": list(kinds[name].reasons),
            "layout": manifest.app_input.layout,
            "resizing": [squash, side, preprocessing.interpolation.upper(), *preprocessing.image_size],
            "edge": [False, True, False],
            "first_pixel": reference.cases[0].image[:, 0, 0].tolist(),
            "last_answer": [float(value) for value in reference.answers[-1]],
        }
    assert len(found) == 7
