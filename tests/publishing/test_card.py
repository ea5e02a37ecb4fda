"""A model card says what was measured, of the very files that it lists, and nothing in those files becomes markup."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from app_projects import as_format, make_artifact
from click.testing import CliRunner
from device_reports import device_report
from markdown_it import MarkdownIt

from mobilevit_sdk import model_card
from mobilevit_sdk.artifacts.artifact import Artifact, open_artifact, write_manifest
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.parity.device import write_device_report
from mobilevit_sdk.spec import Origin

hub = pytest.importorskip("huggingface_hub")

HOSTILE = 'x"\n---\nlicense: mit\n# <script>alert(1)</script> | [a](javascript:b) `c` *d*'
CHECKPOINT = Origin(source="hf-hub:apple/net", layout="timm", sha256="a" * 64)
TRAINED = {"trained_by": "mobilevit train", "test_data": "birds.parquet", "test_images": 5000, "top1": 0.8567}


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return as_format(make_artifact(tmp_path / "files" / "tiny-tflite-fp32"), "tflite", origin=CHECKPOINT)


def changed(artifact: Artifact, **spec: object) -> Artifact:
    new = msgspec.structs.replace(artifact.manifest.spec, **spec)
    write_manifest(artifact.path.parent, msgspec.structs.replace(artifact.manifest, spec=new))
    return open_artifact(artifact.path.parent)


def write_verdicts(file: Path, artifact: Artifact, **changes: object) -> Path:
    row = {
        "artifact": str(artifact.path),
        "runtime": "litert-cpu",
        "status": "passed",
        "sha256": artifact.manifest.sha256,
        "sqnr_db": {"worst": 116.84, "median": 120.0},
        "top1_agreement": 1.0,
        "something": "of a later release",
    }
    file.write_text(json.dumps({"passed": True, "verdicts": [row | changes], "pairs": []}))
    return file


def data_of(card: str) -> dict:
    return hub.ModelCard(card, ignore_metadata_errors=False).data.to_dict()


def test_what_nobody_measured_says_so(artifact):
    card = model_card(artifact)
    assert card.count("not measured") == 6  # parity (3 cells), accuracy of checkpoint and file, phones
    data = data_of(card)
    assert "license" not in data
    assert "model-index" not in data
    assert (data["pipeline_tag"], data["base_model"]) == ("image-classification", "apple/net")
    assert {"tflite", "litert", "mobilevit-sdk"} <= set(data["tags"])


def test_measured_numbers_stand_with_where_they_come_from(artifact, tmp_path):
    artifact = changed(artifact, license="CC-BY-4.0 (someone)", provenance=TRAINED)
    report = tmp_path / "pixel.device-report.json"
    write_device_report(device_report(artifact), report)
    verdicts = write_verdicts(tmp_path / "verdicts.json", artifact)
    card = model_card(artifact, verdicts=verdicts, device_reports=report, repository="someone/birds")
    assert "| tiny-tflite-fp32 | litert-cpu | passed | 116.8 dB | 100% |" in card
    assert "Pixel 8 (Android 15)" in card
    assert "No phone has run these files" not in card
    assert "| 5,000 of birds.parquet | top-1 85.6% |" in card
    assert "$ hf download someone/birds --local-dir birds\n$ mobilevit verify birds" in card
    data = data_of(card)
    assert data["license"] == "cc-by-4.0"
    (result,) = data["model-index"][0]["results"]
    assert (result["dataset"]["name"], result["metrics"][0]["value"]) == ("birds.parquet", 0.8567)


def test_a_verdict_on_another_file_is_not_this_file_s(artifact):
    write_verdicts(artifact.path.parent.parent / "verdicts.json", artifact, sha256="0" * 64)
    result = CliRunner().invoke(main, ["card", str(artifact.path.parent.parent)])
    assert result.exit_code == 0
    assert "116.8" not in result.stdout
    assert "1 verdicts are of other files; run `mobilevit verify` again" in result.stderr.replace("\n", " ")


def test_verdicts_in_the_folder_are_found_and_failures_are_shown(artifact):
    folder = artifact.path.parent.parent
    (folder / "report").mkdir()
    write_verdicts(folder / "report" / "verdicts.json", artifact, status="failed", reason="SQNR 3.0 dB < 90 dB")
    assert "failed: SQNR 3.0 dB &#60; 90 dB" in model_card(folder)


def test_nothing_that_comes_from_files_is_markup_or_yaml(artifact, tmp_path):
    labels = (HOSTILE, *(f"{i}" for i in range(4)))
    hostile = {"test_data": HOSTILE, "top1": 0.5, "data": HOSTILE, "trained_by": HOSTILE, "test_images": True}
    artifact = changed(artifact, labels=labels, license=HOSTILE, model=HOSTILE, provenance=hostile)
    manifest = msgspec.structs.replace(artifact.manifest, tools={HOSTILE: HOSTILE}, warnings=(HOSTILE,), target=HOSTILE)
    write_manifest(artifact.path.parent, manifest)
    verdicts = write_verdicts(tmp_path / "verdicts.json", artifact, runtime=HOSTILE, reason=HOSTILE, device=HOSTILE)
    card = model_card(artifact.path, verdicts=verdicts, repository="a/b")
    data = data_of(card)
    assert data["license"] == "other"
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(card.split("\n---\n", 1)[1])
    inline = [child for token in tokens for child in token.children or ()]
    assert {token.type for token in (*tokens, *inline)} & {"html_block", "html_inline", "link_open", "em_open"} == set()
    assert {t.content for t in inline if t.type == "code_inline"} == {"reference.safetensors"}


@pytest.mark.parametrize("accuracy", [float("nan"), -1, 2, "high", None, True, [0.5]])
def test_an_accuracy_that_is_none_is_left_out(artifact, accuracy):
    provenance = {"test_data": "birds", "top1": accuracy} if accuracy == accuracy else {"test_data": "birds"}
    card = model_card(changed(artifact, provenance=provenance))
    assert "model-index" not in data_of(card)
    assert "| the checkpoint in PyTorch | - | not measured |" in card


def test_changed_files_and_several_checkpoints_have_no_card(artifact, tmp_path):
    other = as_format(make_artifact(tmp_path / "files" / "other"), "onnx", origin=Origin("b.pth", "timm", "b" * 64))
    with pytest.raises(RequestError, match="of 2 checkpoints"):
        model_card(tmp_path / "files")
    other.path.write_bytes(b"another file")
    with pytest.raises(ArtifactError, match="not the file that its manifest describes"):
        model_card(other)


def test_a_file_that_is_no_verdicts_json_is_refused_in_one_line(artifact, tmp_path):
    for content in (b"", b"[]", b'{"verdicts": [{}]}', b"\xff\xfe", b'{"verdicts": 1}', b"[" * 10_000):
        (file := tmp_path / "verdicts.json").write_bytes(content)
        result = CliRunner().invoke(main, ["card", str(artifact.path), "--verdicts", str(file)])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "is not a verdicts.json" in result.stderr.replace("\n", " ")
