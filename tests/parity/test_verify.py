"""`mobilevit verify` on a real .tflite: without torch, twice the same, and never for an input that it does not take."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mobilevit_sdk.artifacts.artifact import MANIFEST, find_artifacts
from mobilevit_sdk.artifacts.origin import source_of
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.parity import verify

# Read by every Python that starts with it on its path, children too.
NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "coremltools", "executorch", "litert_torch", "jax", "sklearn"}:
            raise ModuleNotFoundError(f"{name} is not installed here")
sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def artifact(phone_files):
    return phone_files.artifact("tflite", "fp32")


def test_an_artifact_that_was_moved_is_verified_without_torch_and_without_its_checkpoint(artifact, tmp_path):
    shutil.copytree(artifact.path.parent, tmp_path / "moved")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_TORCH)
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)])
    probe = [sys.executable, "-c", "import torch"]
    blocked = subprocess.run(probe, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert "torch is not installed here" in blocked.stderr
    program = "import sys; from mobilevit_sdk.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "verify", "moved", "--runtime", "litert-cpu", "--report", "r", "--json"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (verdict,) = json.loads(done.stdout)["verdicts"]
    assert (verdict["status"], verdict["cases"]) == ("passed", 27)
    assert (tmp_path / "r" / "report.html").is_file()


def test_the_same_artifact_twice_gives_the_same_verdict_alone_and_among_others(artifact, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(artifact.path.parent, copy)

    def judged(*artifacts):
        verdicts = verify(artifacts, runtimes=["litert-cpu"])
        assert all(verdict.seconds > 0 for verdict in verdicts)
        return [msgspec.structs.replace(verdict, seconds=0.0) for verdict in verdicts]

    (first,), (again,) = (judged(artifact) for _ in range(2))
    assert first.agreement.sqnr_db.worst < 200  # otherwise equal verdicts would say nothing
    assert first == again
    beside, other = judged(artifact, *find_artifacts([copy]))
    assert beside == first
    assert other.agreement == first.agreement


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((3, 36, 36), np.float32), "float32"),
        (np.zeros((36, 36, 3), np.uint8), r"\(36, 36, 3\)"),
        (np.zeros((1, 3, 36, 36), np.uint8), r"\(1, 3, 36, 36\)"),
        (np.zeros((3, 35, 36), np.uint8), r"\(3, 35, 36\)"),
        (np.zeros((1, 36, 36), np.uint8), r"\(1, 36, 36\)"),
        (np.zeros((3, 36, 36), np.int8), "int8"),
    ],
)
def test_cases_of_another_type_size_or_layout_are_an_error(artifact, image, match):
    whole = artifact.reference()
    spoilt = Reference((Case("spoilt", image), *whole.cases[1:]), whole.answers)
    with pytest.raises(RequestError, match=match):
        verify([artifact], runtimes=["litert-cpu"], reference=lambda artifact: spoilt)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda logits: logits[:-1], "expected 5 classes in float32 for each case"),
        (lambda logits: logits.astype(np.float64), "float64"),
        (lambda logits: np.where(logits == logits.max(), np.float32(np.nan), logits), "not finite"),
        (lambda logits: np.full_like(logits, np.inf), "not finite"),
    ],
)
def test_a_reference_that_nothing_can_be_compared_with_is_an_error(artifact, change, match):
    whole = artifact.reference()
    spoilt = dataclasses.replace(whole, answers=change(whole.answers))
    with pytest.raises(RequestError, match=match):
        verify([artifact], runtimes=["litert-cpu"], reference=lambda artifact: spoilt)


@pytest.fixture
def broken(artifact, tmp_path):
    """A copy whose file and manifest agree and whose head has other weights."""
    folder = tmp_path / "broken"
    shutil.copytree(artifact.path.parent, folder)
    weights = load_checkpoint(source_of(artifact)).model.state_dict()["head.weight"].numpy()
    file, content = folder / artifact.path.name, artifact.path.read_bytes()
    assert content.count(weights.tobytes()) == 1
    file.write_bytes(content.replace(weights.tobytes(), weights[::-1].tobytes()))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"], manifest["bytes"] = hash_and_size(file)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_a_run_that_fails_names_the_layer_in_all_reports(artifact, broken, tmp_path):
    arguments = ["verify", str(broken), "--runtime", "litert-cpu", "--bisect", "--report", str(tmp_path / "report")]
    done = CliRunner().invoke(main, [*arguments, "--checkpoint", source_of(artifact)])
    assert done.exit_code == 1, done.output
    assert "where: broken on litert-cpu: diverges at linear in head" in done.stdout
    for name in ("verdicts.json", "junit.xml", "report.html", "summary.md"):
        assert "diverges at linear in head" in (tmp_path / "report" / name).read_text(), name


def test_a_run_that_cannot_be_bisected_says_why_and_has_still_failed(broken, tmp_path):
    missing = str(tmp_path / "none.safetensors")
    arguments = ["verify", str(broken), "--runtime", "litert-cpu", "--bisect", "--checkpoint", missing, "--json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1, done.output
    (divergence,) = json.loads(done.stdout)["divergences"]
    assert divergence["message"].startswith("cannot be bisected: ")
    assert "none.safetensors" in divergence["message"]


def test_no_cases_are_an_error_and_no_verdict(artifact):
    with pytest.raises(RequestError, match="no cases"):
        verify([artifact], reference=lambda artifact: Reference((), np.zeros((0, 5), np.float32)))


def test_a_case_that_is_not_contiguous_gets_the_answer_of_the_same_pixels(artifact):
    image = np.random.default_rng(0).integers(0, 256, (3, 72, 72), np.uint8)[:, ::2, ::-2]
    answer = verify_answers(artifact, image)
    assert np.array_equal(answer, verify_answers(artifact, np.ascontiguousarray(image)))


def verify_answers(artifact, image):
    from mobilevit_sdk.parity import run_artifacts

    reference = Reference((Case("one", image),), np.ones((1, 5), np.float32))
    (run,) = run_artifacts([artifact], runtimes=["litert-cpu"], reference=lambda artifact: reference)
    return run.outputs


def test_the_stored_cases_are_photographs_and_what_breaks_things(artifact):
    cases = {case.name: case for case in artifact.reference().cases}
    photographs = [case.image for name, case in cases.items() if name.startswith(("china", "flower"))]
    assert len(photographs) == 20
    assert len({image.tobytes() for image in photographs}) == 20
    assert min(image.std() for image in photographs) > 10
    assert not cases["zeros"].image.any()
    assert (cases["ones"].image == 255).all()
    for name in ("extremes, checkerboard", "extremes, primaries"):
        assert set(np.unique(cases[name].image)) == {0, 255}
    assert cases["one bright pixel"].image.sum() == 3 * 255
    passed_on = cases["photograph in non-contiguous memory"].as_passed()
    assert not passed_on.flags.c_contiguous
    assert np.array_equal(passed_on, photographs[0])


def test_images_of_any_kind_are_brought_to_the_form_that_the_model_takes(artifact, tmp_path):
    from mobilevit_sdk.data.cases import image_cases

    pixels = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "gray.png")
    Image.fromarray(np.stack([pixels] * 4, axis=2)).save(tmp_path / "alpha.png")
    Image.fromarray(pixels).convert("P").save(tmp_path / "palette.png")
    cases = image_cases(tmp_path, artifact.manifest.spec.preprocessing)
    assert {(case.image.shape, case.image.dtype.name) for case in cases} == {((3, 36, 36), "uint8")}
