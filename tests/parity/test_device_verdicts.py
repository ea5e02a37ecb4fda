"""A phone is one more runtime: its report is judged as every runtime's answers, or refused."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from device_reports import PIXEL, device_report, device_run
from fake_format import fake_format
from helpers import tiny_reference, tiny_spec, write_artifact

from mobilevit_sdk import verify
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.reference import REFERENCE, Reference, write_reference
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.parity import judge_runs, passed, read_baseline
from mobilevit_sdk.parity.device import App, CaseOutputs, Device, collect_runs, write_device_report
from mobilevit_sdk.parity.report import write_report

IPHONE = Device(model="iPhone16,1", system="iOS 18.1", processor=None)


@pytest.fixture(scope="module")
def reference():
    return tiny_reference()


@pytest.fixture
def runtimes(monkeypatch, reference):
    return fake_format(monkeypatch, reference)


@pytest.fixture
def artifact(tmp_path, reference):
    return write_artifact(tmp_path / "one", tiny_spec(), reference)


def judged(artifact, *reports):
    return verify(artifact, runtimes="device", device_reports=reports)


def refused(artifact, *reports):
    with pytest.raises(RequestError) as caught:
        judged(artifact, *reports)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def near(reference, db=60):
    return reference.answers * np.float32(1 + 10 ** (-db / 20))


def test_a_phone_that_answers_as_pytorch_passes_and_is_named(artifact):
    (verdict,) = judged(artifact, device_report(artifact))
    assert (verdict.status, verdict.runtime, verdict.runtime_version) == ("passed", "litert-gpu", "2.3.0")
    assert verdict.to_json()["device"] == "Pixel 8 (Android 15)"
    assert verdict.agreement.cases == 27
    assert passed([verdict])


def test_a_phone_is_held_to_the_thresholds_of_the_precision(tmp_path, artifact, reference):
    half = write_artifact(tmp_path / "half", tiny_spec(), reference, precision="fp16")
    (failed,) = judged(artifact, device_report(artifact, device_run(artifact, near(reference))))
    assert failed.status == "failed"
    assert "is below 90 dB" in failed.reason
    (good,) = judged(half, device_report(half, device_run(half, near(reference))))
    assert good.status == "passed"


def test_a_miss_in_float16_that_the_app_asked_for_says_so(artifact, reference):
    (verdict,) = judged(artifact, device_report(artifact, device_run(artifact, near(reference), precision="fp16")))
    assert "computed in float16, as the app asked" in verdict.reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max])
def test_answers_that_are_not_finite_or_overflow_fail(artifact, reference, value):
    outputs = reference.answers.copy()
    outputs[3, 1] = value
    (verdict,) = judged(artifact, device_report(artifact, device_run(artifact, outputs)))
    assert verdict.status == "failed"
    assert ("not finite" in verdict.reason) == (not np.isfinite(value))


def test_the_same_answer_to_every_image_fails(artifact, reference):
    (verdict,) = judged(artifact, device_report(artifact, device_run(artifact, 0 * reference.answers)))
    assert "it answers every image with the same scores" in verdict.reason


def test_a_run_with_an_error_is_an_error_and_never_passes(artifact):
    broken = device_run(artifact, accelerator="npu", cases=(), error="no NPU here", latency=None)
    verdicts = judged(artifact, device_report(artifact, device_run(artifact), broken))
    assert [(each.status, each.reason) for each in verdicts] == [("passed", None), ("error", "no NPU here")]
    assert not passed(verdicts)


def test_a_phone_counts_where_no_runtime_of_this_machine_runs_the_artifact(artifact, runtimes):
    runtimes("coreml", available=Availability(None, "needs macOS"))
    verdicts = verify(artifact, device_reports=device_report(artifact))
    assert [verdict.status for verdict in verdicts] == ["unavailable", "passed"]
    assert passed(verdicts)
    assert not passed(verify(artifact))


def test_a_runtime_that_is_named_still_runs_beside_the_phones(artifact, runtimes):
    runtimes("one")
    runtimes("two")
    verdicts = verify(artifact, runtimes=["two", "device"], device_reports=device_report(artifact))
    assert [verdict.place for verdict in verdicts] == ["two", "litert-gpu of Pixel 8 (Android 15)"]


def test_an_artifact_without_a_report_does_not_pass(tmp_path, artifact, reference):
    other = write_artifact(tmp_path / "other", tiny_spec(), reference)
    other.path.write_bytes(b"another phone file")
    other = Artifact(other.path, msgspec.structs.replace(other.manifest, sha256="0" * 64))
    verdicts = judged([artifact, other], device_report(artifact))
    assert [(each.status, each.reason) for each in verdicts][1] == ("unavailable", "no device report is for it")
    assert not passed(verdicts)


def test_device_without_a_report_is_refused(artifact):
    with pytest.raises(RequestError, match="device_reports"):
        verify(artifact, runtimes="device")


def test_a_file_that_was_changed_since_does_not_pass(artifact):
    report = device_report(artifact)
    artifact.path.write_bytes(b"a changed file")
    (verdict,) = judged(artifact, report)
    assert verdict.status == "failed"
    assert "is not the one that its manifest describes" in verdict.reason


# What is not about this artifact, or not an answer to its cases


def test_a_report_of_another_file_is_refused_with_its_sha256(artifact):
    report = device_report(artifact)
    other = msgspec.structs.replace(report.artifact, sha256="ab" * 32, file="other.tflite")
    line = refused(artifact, device_report(artifact, artifact=other))
    assert "'other.tflite' with SHA-256 " + "ab" * 32 in line
    assert f"one has {artifact.manifest.sha256[:12]}" in line


def test_a_report_of_other_reference_vectors_is_refused(artifact, reference):
    report = device_report(artifact)
    shuffled = Reference(reference.cases[::-1], reference.answers[::-1])
    write_reference(artifact.path.parent, shuffled, artifact.manifest.spec)
    assert "run the app again" in refused(artifact, report)
    (artifact.path.parent / REFERENCE).unlink()
    assert "is missing" in refused(artifact, report)


def changed_cases(run, change):
    cases = list(run.cases)
    change(cases)
    return msgspec.structs.replace(run, cases=tuple(cases))


def swap(cases):
    cases[0], cases[1] = cases[1], cases[0]


def rename(cases):
    cases[5] = msgspec.structs.replace(cases[5], name="china\n, nowhere")


def outputs_of(**outputs):
    def change(cases):
        cases[2] = CaseOutputs(name=cases[2].name, outputs=outputs)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda cases: cases.pop(), "it has 26 cases of 27"),
        (lambda cases: cases.append(cases[-1]), "it has 28 cases of 27"),
        (lambda cases: cases.pop(0), "case 1 is 'china, mirrored' where the reference has 'china, whole'"),
        (swap, "case 1 is 'china, mirrored'"),
        (rename, "case 6 is"),
        (outputs_of(), "the outputs none, not 'logits' alone"),
        (outputs_of(features=bytes(20)), "the outputs features, not 'logits' alone"),
        (outputs_of(logits=bytes(20), boxes=bytes(20)), "the outputs logits, boxes, not"),
        (outputs_of(logits=bytes(19)), "19 bytes of logits, not 20: 5 float32 values"),
        (outputs_of(logits=bytes(40)), "40 bytes of logits, not 20"),
        (outputs_of(logits=b""), "0 bytes of logits, not 20"),
    ],
)
def test_answers_to_other_cases_or_of_another_shape_are_refused(artifact, change, words):
    assert words in refused(artifact, device_report(artifact, changed_cases(device_run(artifact), change)))


def test_a_runtime_that_does_not_run_the_format_is_refused(artifact):
    tflite = Artifact(artifact.path, msgspec.structs.replace(artifact.manifest, format="tflite"))
    report = device_report(tflite, device_run(tflite, runtime="coreml", accelerator="ane"))
    assert "coreml-ane does not run tflite files" in refused(tflite, report)


# Several phones


def test_two_phones_of_one_model_do_not_collide(artifact, reference):
    worse = device_report(artifact, device_run(artifact, near(reference)))
    verdicts = judged(artifact, device_report(artifact), worse, device_report(artifact, device=IPHONE))
    labels = ["Pixel 8 (Android 15)", "Pixel 8 (Android 15) #2", "iPhone16,1 (iOS 18.1)"]
    assert [verdict.device for verdict in verdicts] == labels
    assert [verdict.status for verdict in verdicts] == ["passed", "failed", "passed"]


def test_reports_of_one_phone_on_several_accelerators_are_of_one_phone(artifact):
    runs = (device_run(artifact, accelerator=each) for each in ("cpu", "gpu", "npu", "cpu"))
    reports = [device_report(artifact, run, app=App(name=f"app {i}", version="1")) for i, run in enumerate(runs)]
    pixel = "Pixel 8 (Android 15)"
    assert [verdict.place for verdict in judged(artifact, *reports)] == [
        f"litert-cpu of {pixel}",
        f"litert-gpu of {pixel}",
        f"litert-npu of {pixel}",
        f"litert-cpu of {pixel} #2",
    ]


def test_the_same_report_twice_counts_once(artifact):
    report = device_report(artifact)
    assert len(judged(artifact, report, report)) == 1


def test_drift_compares_a_phone_with_itself(artifact, reference, tmp_path):
    def outcome(baseline=None, **outputs):
        runs = [
            device_report(artifact, device_run(artifact, outputs.get(each.model)), device=each)
            for each in (PIXEL, IPHONE)
        ]
        return judge_runs(collect_runs(artifact, runtimes="device", device_reports=runs), baseline=baseline)

    (tmp_path / "verdicts.json").write_text(json.dumps(outcome().to_json()))
    baseline = read_baseline(tmp_path / "verdicts.json")
    assert (outcome(baseline).drift.compared, outcome(baseline).drift.worse) == (2, ())
    changed = outcome(baseline, **{"Pixel 8": near(reference, 100)})
    assert {each.device for each in changed.drift.worse} == {"Pixel 8 (Android 15)"}
    one_phone = judge_runs(
        collect_runs(artifact, runtimes="device", device_reports=device_report(artifact)), baseline=baseline
    )
    assert one_phone.drift.notes == (
        "one on litert-gpu of iPhone16,1 (iOS 18.1) is in the baseline and was not verified",
    )


def test_every_form_of_the_report_names_the_phone_and_escapes_it(artifact, reference, tmp_path):
    hostile = Device(model="<script>alert(1)</script>|`x`", system="Android 15", processor=None)
    reports = [device_report(artifact), device_report(artifact, device_run(artifact, near(reference)), device=hostile)]
    outcome = judge_runs(collect_runs(artifact, runtimes="device", device_reports=reports))
    assert {pair.second_device for pair in outcome.pairs} <= {verdict.device for verdict in outcome.verdicts}
    write_report(outcome, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert all(
        words in page for words in ("Pixel 8 (Android 15)", "4.20 ms, p90 9.50 ms", "Tensor G3", "the whole net")
    )
    markdown = (tmp_path / "report" / "summary.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "litert-gpu of Pixel 8 (Android 15)" in markdown
    cases = ElementTree.parse(tmp_path / "report" / "junit.xml").getroot().findall(".//testcase")
    names = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(set(names)) == len(names)
    assert ("fake.litert-gpu", "one fp32 of Pixel 8 (Android 15)") in names


# The command


@pytest.fixture
def command(artifact, tmp_path):
    def run(report, *arguments):
        write_device_report(report, tmp_path / "pixel.device-report.json")
        options = ["--runtime", "device", "--device-report", str(tmp_path / "pixel.device-report.json")]
        return CliRunner().invoke(main, ["verify", str(artifact.path.parent), *options, *arguments])

    return run


def test_the_command_judges_reports_alone(command, artifact, reference):
    good = command(device_report(artifact), "--json")
    assert good.exit_code == 0, good.output
    (verdict,) = json.loads(good.stdout)["verdicts"]
    assert (verdict["runtime"], verdict["device"], verdict["status"]) == (
        "litert-gpu",
        "Pixel 8 (Android 15)",
        "passed",
    )
    assert command(device_report(artifact, device_run(artifact, near(reference)))).exit_code == 1
    error = device_run(artifact, cases=(), error="no GPU", latency=None)
    assert command(device_report(artifact, error)).exit_code == 3
    assert "one · Pixel 8 (Android 15)" in command(device_report(artifact)).stdout


def test_the_command_refuses_a_report_of_another_file_with_2(command, artifact):
    foreign = msgspec.structs.replace(device_report(artifact).artifact, sha256="ab" * 32)
    refused = command(device_report(artifact, artifact=foreign), "--json")
    assert refused.exit_code == 2
    assert "ab" * 32 in json.loads(refused.stdout)["error"]
    assert len(refused.stderr.strip().splitlines()) == 1


def test_what_failed_on_a_phone_alone_is_not_bisected_and_says_so(command, artifact, reference):
    failed = command(device_report(artifact, device_run(artifact, near(reference))), "--bisect")
    assert failed.exit_code == 1
    assert "where: one on litert-gpu of Pixel 8 (Android 15): cannot be bisected" in failed.stdout
