"""The page in a phone-sized browser that trusts this server's certificate, as its user does at the warning."""

from __future__ import annotations

import shutil

import pytest
from browser_page import Page
from mobilevit_converters.tflite.runtimes.web import LiteRTWebRuntime
from phone_server import Serving

from mobilevit_sdk.artifacts.artifact import open_artifact
from mobilevit_sdk.parity.device import read_device_report

AVAILABLE = LiteRTWebRuntime().availability()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not AVAILABLE, reason=f"litert-web: {AVAILABLE.reason}")]

PASSED = "/Passed/.test(document.querySelector('#panel-verify').innerText)"


def test_a_phone_verifies_two_artifacts_over_https_and_the_command_ends(phone_files, tmp_path):
    first = phone_files.artifact("tflite", "fp32")
    shutil.copytree(first.path.parent, tmp_path / "another.name-2")
    second = open_artifact(tmp_path / "another.name-2")
    with Serving([first, second], tmp_path / "out", https=True, keep=True) as serving:
        with Page(serving.address, flags=("--ignore-certificate-errors",)) as page:
            assert page.evaluate("isSecureContext && crossOriginIsolated && !!navigator.gpu")
            for name in (first.path.parent.name, "another.name-2"):
                page.evaluate(
                    f"(() => {{ const list = document.querySelector('#artifact'); list.value = {name!r};"
                    "list.dispatchEvent(new Event('change')); })()"
                )
                page.wait(f"document.body.dataset.ready === {name!r}")
                page.click("#tab-verify")
                page.press("Verify")
                page.wait(PASSED)
            assert page.complaints == []
        serving.interrupt()
        result = serving.result()
    assert [each.report.artifact.name for each in result.reports] == [first.path.parent.name, second.path.parent.name]
    assert {(row.runtime, row.status) for row in result.outcome.verdicts} == {
        ("litert-wasm", "passed"),
        ("litert-webgpu", "passed"),
    }
    assert [read_device_report(each.path) for each in result.reports] == [each.report for each in result.reports]
    assert any(line.endswith("opened the page") for line in serving.lines)
    assert any(line.endswith("loaded another.name-2") for line in serving.lines)
