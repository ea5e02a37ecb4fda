"""The fixture `assert_parity` in a suite of a user's, which pytest runs in a process of its own."""

from __future__ import annotations

from importlib.metadata import entry_points

import msgspec
import pytest
from device_reports import device_report, device_run
from helpers import REPOSITORY, tiny_model, tiny_spec, write_artifact

from mobilevit_sdk.artifacts.artifact import open_artifact
from mobilevit_sdk.artifacts.reference import reference_of
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.parity.device import write_device_report

pytest_plugins = ["pytester"]

# A format of the user's own, whose runtime answers with the stored scores times a factor that the file holds.
FAKE = """
import pytest
from mobilevit_sdk.artifacts import artifact
from mobilevit_sdk.parity import runs
from mobilevit_sdk.formats.runtime import Availability

class Runtime:
    name, format = "fake-cpu", "fake"
    def availability(self):
        return Availability("1.0")

class Absent(Runtime):
    name = "fake-gpu"
    def availability(self):
        return Availability(None, "there is no GPU here")

class Converter:
    runtimes = (Runtime(), Absent())

@pytest.fixture(autouse=True)
def fake(monkeypatch):
    def answer(function, ref, cases, **options):
        return artifact.open_artifact(ref.path.parent).reference().answers * FACTOR
    monkeypatch.setattr(artifact, "find_converter", lambda *name: Converter)
    monkeypatch.setattr(runs, "run_in_child", answer)
"""


@pytest.fixture
def suite(pytester):
    model, spec = tiny_model()
    write_artifact(
        pytester.path / "net-fp16",
        tiny_spec(),
        reference_of(model, spec.preprocessing, builtin_cases(spec.preprocessing)[:3]),
        precision="fp16",
    )

    def run(body, factor="1.0"):
        pytester.makeconftest(FAKE.replace("FACTOR", factor))
        pytester.makepyfile(f"def test_parity(assert_parity):\n    {body}\n")
        installed = any(point.value == "mobilevit_sdk.pytest_plugin" for point in entry_points(group="pytest11"))
        return pytester.runpytest(
            *([] if installed else ["-p", "mobilevit_sdk.pytest_plugin"]), "-p", "no:cacheprovider"
        )

    return run


def test_an_artifact_that_agrees_passes_and_its_verdicts_come_back(suite):
    body = "verdicts = assert_parity('net-fp16')\n    assert [v.status for v in verdicts] == ['passed', 'unavailable']"
    suite(body).assert_outcomes(passed=1)


def test_an_artifact_that_differs_fails_with_the_runtime_the_numbers_and_the_reason(suite):
    done = suite("assert_parity('net-fp16')", factor="1.1")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "no parity: net-fp16 on fake-cpu: SQNR 20.0 dB on * is below 40 dB",
            "  failed: *net-fp16*on fake-cpu (3 cases, SQNR 20.0 dB at worst, 20.0 dB in the median)",
            "    SQNR 20.0 dB on * is below 40 dB",
            "  unavailable: *on fake-gpu",
            "    there is no GPU here",
        ]
    )
    done.stdout.no_fnmatch_line("*pytest_plugin.py*")  # no traceback


def test_a_runtime_that_is_not_here_passes_nothing(suite):
    done = suite("assert_parity('net-fp16', runtime='fake-gpu')")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["    there is no GPU here"])


def test_a_phone_is_judged_by_its_report(suite, pytester):
    artifact = open_artifact(pytester.path / "net-fp16")
    write_device_report(device_report(artifact), pytester.path / "good.json")
    wrong = device_run(artifact, artifact.reference().answers * 1.1)
    write_device_report(device_report(artifact, wrong), pytester.path / "wrong.json")
    suite("assert_parity('net-fp16', runtime='device', device_reports='good.json')").assert_outcomes(passed=1)
    done = suite("assert_parity('net-fp16', device_reports=['good.json', 'wrong.json'])")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["no parity: net-fp16 on litert-gpu of Pixel 8 (Android 15) #2: SQNR *"])


def test_a_mistake_fails_in_one_line(suite):
    done = suite("assert_parity('missing')")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["no parity: missing does not exist*"])


def test_the_project_of_the_suite_sets_the_thresholds(suite, pytester):
    suite("assert_parity('net-fp16')", factor="1.008").assert_outcomes(passed=1)
    pytester.makepyprojecttoml("[tool.mobilevit.parity.fp16]\nsqnr_db = 45")
    done = suite("assert_parity('net-fp16')", factor="1.008")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*is below 45 dB"])


def test_pytest_finds_the_plugin_by_its_entry_point():
    project = msgspec.toml.decode((REPOSITORY / "pyproject.toml").read_bytes())["project"]
    assert project["entry-points"]["pytest11"] == {"mobilevit": "mobilevit_sdk.pytest_plugin"}
