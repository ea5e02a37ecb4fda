"""What the iOS app's kit says of an artifact is what the SDK says."""

from __future__ import annotations

import re
import subprocess

import msgspec
import pytest
from helpers import write_artifact
from swift_tools import swift_or_skip

from mobilevit_sdk import verify
from mobilevit_sdk.artifacts.artifact import write_manifest
from mobilevit_sdk.artifacts.reference import reference_of
from mobilevit_sdk.checkpoints.default import default_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.demos import demo_folder
from mobilevit_sdk.formats.app_input import app_input_of
from mobilevit_sdk.parity import THRESHOLDS
from mobilevit_sdk.parity.device import read_device_report

IOS = demo_folder("ios_demo")
KIT = IOS / "MobileViTDemo.swiftpm" / "MobileViTKit"
THRESHOLD = re.compile(
    r'"([a-z0-9-]+)": Threshold\(sqnrDB: ([0-9.]+), top1Agreement: ([0-9.]+), countsEdgeCases: (true|false)\)'
)


def test_the_previews_thresholds_are_those_of_the_gate() -> None:
    source = (KIT / "Sources/MobileViTKit/Proof/Thresholds.swift").read_text()
    found = [(name, float(db), float(top1), counts == "true") for name, db, top1, counts in THRESHOLD.findall(source)]
    assert found == [
        (precision, each.sqnr_db, each.top1_agreement, each.task_agreement is None)
        for precision, each in THRESHOLDS.items()
    ]


@pytest.fixture(scope="module")
def swift() -> list[str]:
    """The command that runs Swift's own, which `make ios` installs."""
    return swift_or_skip()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_report_that_swift_wrote_of_the_default_is_judged(tmp_path, swift, precision):
    checkpoint = load_checkpoint(default_checkpoint())
    model, spec = checkpoint.model, checkpoint.spec
    reference = reference_of(model, spec.preprocessing, builtin_cases(spec.preprocessing))
    artifact = write_artifact(tmp_path / "artifact", spec, reference, precision=precision)
    fed = app_input_of(artifact.manifest.inputs, spec.preprocessing)
    write_manifest(artifact.path.parent, msgspec.structs.replace(artifact.manifest, app_input=fed))
    command = [*swift, "env", f"MOBILEVIT_EXCHANGE={tmp_path}", "swift", "test", "--package-path", KIT]
    done = subprocess.run([*command, "--filter", "SDKExchangeTests"], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr

    report = tmp_path / "swift.device-report.json"
    assert read_device_report(report).device.label == "iPhone16,1 (iOS 18.1)"
    passed, failed, broken = verify(artifact, runtimes="device", device_reports=report)
    assert (passed.runtime, passed.status, passed.agreement.sqnr_db.worst) == ("coreml-ane", "passed", 200)
    assert (failed.runtime, failed.status) == ("coreml-gpu", "failed")
    assert failed.agreement.sqnr_db.worst == pytest.approx(float((tmp_path / "worst.txt").read_text()), abs=1e-6)
    assert (broken.runtime, broken.status) == ("coreml-cpu", "error")
    assert "the accelerator is busy" in broken.reason
