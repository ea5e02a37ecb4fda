"""The published schema and the guide of the device report say what the reader does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
from device_reports import device_report, device_run
from helpers import REPOSITORY, tiny_model, tiny_spec, write_artifact

from mobilevit_sdk.artifacts.reference import reference_of
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.parity.device import parse_device_report, seal, write_device_report
from mobilevit_sdk.parity.device.schema import json_schema

jsonschema = pytest.importorskip("jsonschema")  # comes with check-jsonschema

SCHEMA = REPOSITORY / "docs" / "device-report.schema.json"
GUIDE = (REPOSITORY / "docs" / "guides" / "device-report.md").read_text(encoding="utf-8")


def block(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)[0]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    model, spec = tiny_model()
    cases = builtin_cases(spec.preprocessing)[:3]
    folder = tmp_path_factory.mktemp("artifact") / "one"
    return write_artifact(folder, tiny_spec(), reference_of(model, spec.preprocessing, cases))


def test_the_published_schema_is_that_of_the_types():
    again = "python -m mobilevit_sdk.parity.device.schema > docs/device-report.schema.json"
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json_schema(), again


def test_the_example_of_the_guide_and_written_reports_are_valid_by_the_schema(artifact, tmp_path):
    (tmp_path / "guide.json").write_text(block("json"), encoding="utf-8")
    npu = device_run(artifact, accelerator="npu", cases=(), error="no NPU", latency=None, peak_memory_bytes=None)
    write_device_report(device_report(artifact), tmp_path / "one.json")
    write_device_report(device_report(artifact, device_run(artifact), npu), tmp_path / "two.json")
    files = [str(tmp_path / name) for name in ("guide.json", "one.json", "two.json")]
    subprocess.run([sys.executable, "-m", "check_jsonschema", "--schemafile", str(SCHEMA), *files], check=True)


def test_the_example_of_the_guide_is_a_device_report_with_its_digest():
    report = parse_device_report(block("json").encode())
    assert report.run_names == ["litert-gpu", "litert-npu"]
    assert len(report.runs[0].cases[0].outputs["logits"]) == 12


def members_of(schema, name):
    return set(schema["$defs"][name]["properties"])


def test_the_tables_of_the_guide_name_every_member():
    schema = json_schema()
    rows = [row.split("|")[1] for row in GUIDE.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w.\[\]]+)`", row)}
    assert named >= members_of(schema, "DeviceReport") - {"app", "device", "artifact"}
    for prefix, name in (("app", "App"), ("device", "Device"), ("artifact", "ReportedArtifact")):
        assert {each for each in named if each.startswith(f"{prefix}.")} == {
            f"{prefix}.{member}" for member in members_of(schema, name)
        }
    assert named >= members_of(schema, "DeviceRun")
    assert named >= {f"latency.{member}" for member in members_of(schema, "Latency")}
    assert named >= {f"cases[].{member}" for member in members_of(schema, "CaseOutputs")}


def unsealed(report):
    document = json.loads(seal(report))
    del document["digest"]
    return json.dumps(document, ensure_ascii=False)


def test_the_python_of_the_guide_seals_a_report(artifact):
    code: dict = {}
    exec(block("python"), code)
    report = device_report(artifact)
    assert parse_device_report(code["seal"](unsealed(report))).runs == report.runs


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_javascript_of_the_guide_seals_a_report(artifact, tmp_path):
    report = device_report(artifact)
    main = "seal(require('fs').readFileSync(0, 'utf8')).then(async (it) => process.stdout.write(await it.text()));"
    (tmp_path / "seal.cjs").write_text(block("javascript") + main, encoding="utf-8")
    command = ["node", str(tmp_path / "seal.cjs")]
    done = subprocess.run(command, input=unsealed(report).encode(), capture_output=True, check=True)
    assert parse_device_report(done.stdout).runs == report.runs
