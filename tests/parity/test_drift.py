"""What became worse since an earlier run."""

from __future__ import annotations

import json

import msgspec
import pytest
from click.testing import CliRunner
from fake_format import fake_format
from helpers import tiny_reference, tiny_spec, write_artifact
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.parity import judge_runs, read_baseline, run_artifacts
from mobilevit_sdk.parity.drift import compare_with_baseline
from mobilevit_sdk.parity.report import write_report


@pytest.fixture(scope="module")
def reference():
    return tiny_reference()


@pytest.fixture
def verdict(tmp_path, monkeypatch, reference):
    """An fp16 verdict of 60 dB."""
    fake_format(monkeypatch, reference)("litert", spoil=lambda scores: scores * 1.001)
    artifact = write_artifact(tmp_path / "net-fp16", tiny_spec(), reference, precision="fp16")
    (verdict,) = judge_runs(run_artifacts([artifact])).verdicts
    return verdict


@pytest.fixture
def baseline(tmp_path):
    """Writes a verdicts.json with the given verdicts."""

    def write(*verdicts, **changes):
        rows = [verdict.to_json() | changes for verdict in verdicts]
        (path := tmp_path / "old.json").write_text(json.dumps({"passed": True, "verdicts": rows}))
        return read_baseline(path)

    return write


def better(verdict, **agreement):
    """The verdict as it might have been: with other agreement."""
    return msgspec.structs.replace(verdict, agreement=msgspec.structs.replace(verdict.agreement, **agreement))


def test_the_same_again_is_no_worse(verdict, baseline):
    drift = compare_with_baseline([verdict], baseline(verdict))
    assert (drift.worse, drift.notes, drift.compared) == ((), (), 1)


@pytest.mark.parametrize(
    ("before", "metric", "message"),
    [
        ({"sqnr_db": {"worst": 67.0, "median": 60.0}}, "sqnr_db.worst", "worst SQNR fell from 67.0 to 60.0 dB"),
        ({"sqnr_db": {"worst": 60.0, "median": 67.0}}, "sqnr_db.median", "median SQNR fell from 67.0 to 60.0 dB"),
        ({"bytes": 10}, "bytes", "the file grew from 10 to 12 bytes (+20.0%)"),
    ],
)
def test_what_is_worse_inside_the_thresholds_is_said(verdict, baseline, before, metric, message):
    drift = compare_with_baseline([verdict], baseline(verdict, **before))
    assert [(worse.metric, worse.message) for worse in drift.worse] == [(metric, message)]


def test_a_best_class_lost_is_said_with_both_shares(verdict, baseline):
    now = better(verdict, top1_agreement=26 / 27, top5_agreement=0.97)
    drift = compare_with_baseline([now], baseline(verdict))
    messages = [worse.message for worse in drift.worse]
    assert messages == ["the same best class fell from 100% to 96.2%", "the same best five fell from 100% to 97%"]


@pytest.mark.parametrize("before", [65.0, 60.0, 40.0])
def test_what_noise_explains_and_what_is_better_is_not_worse(verdict, baseline, before):
    assert compare_with_baseline([verdict], baseline(verdict, sqnr_db={"worst": before, "median": before})).worse == ()


def test_float32_rounding_is_noise_however_exact_it_was_before(verdict, baseline):
    now = better(verdict, sqnr_db=msgspec.structs.replace(verdict.agreement.sqnr_db, worst=121.0, median=130.0))
    assert compare_with_baseline([now], baseline(verdict, sqnr_db={"worst": 200.0, "median": 200.0})).worse == ()


def test_operators_that_left_the_delegate_are_named(verdict, baseline):
    now = msgspec.structs.replace(verdict, undelegated_ops={"native_layer_norm": 4, "expand_copy": 2}, delegates=5)
    drift = compare_with_baseline([now], baseline(verdict, undelegated_ops={"expand_copy": 2}))
    assert [worse.message for worse in drift.worse] == [
        "operators left the delegate: native_layer_norm 0 -> 4",
        "the graph is cut into 5 delegate calls instead of 1",
    ]


@pytest.mark.parametrize("status", ["unavailable", "error"])
def test_a_runtime_that_no_longer_runs_is_worse(verdict, baseline, status):
    now = msgspec.structs.replace(verdict, status=status, agreement=None, reason="needs macOS")
    drift = compare_with_baseline([now], baseline(verdict))
    assert [(worse.metric, worse.message) for worse in drift.worse] == [("status", "no longer runs: needs macOS")]
    assert compare_with_baseline([now], baseline(now)).worse == ()


def test_other_images_are_no_drift_and_are_said(verdict, baseline):
    drift = compare_with_baseline(
        [verdict], baseline(verdict, cases_sha256="0" * 64, sqnr_db={"worst": 99, "median": 99})
    )
    assert drift.worse == ()
    assert "other images" in drift.notes[0]


def test_an_artifact_is_the_same_wherever_its_folder_stands(verdict, baseline):
    moved = f"/elsewhere/{'/'.join(verdict.artifact.split('/')[-2:])}"
    assert compare_with_baseline([verdict], baseline(verdict, artifact=moved)).compared == 1
    drift = compare_with_baseline([verdict], baseline(verdict, artifact="/elsewhere/another-fp16/mobilevit_xxs.fake"))
    assert drift.compared == 0
    assert [note.split(" ", 1)[0] for note in drift.notes] == ["net-fp16", "another-fp16"]


def test_a_baseline_of_an_older_release_is_compared_by_what_it_holds(verdict, baseline, tmp_path):
    keys = ("artifact", "format", "precision", "runtime", "status", "sqnr_db", "top1_agreement")
    row = {key: verdict.to_json()[key] for key in keys}
    (tmp_path / "older.json").write_text(json.dumps({"passed": True, "verdicts": [row]}))
    drift = compare_with_baseline([verdict], read_baseline(tmp_path / "older.json"))
    assert (drift.worse, drift.compared) == ((), 1)


@given(content=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_what_is_no_baseline_is_one_error(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("baseline") / "old.json"
    path.write_bytes(b'{"verdicts": [3,' + content)
    with pytest.raises(RequestError, match=r"is not a verdicts\.json of this SDK") as caught:
        read_baseline(path)
    assert len(str(caught.value).splitlines()) == 1


def test_the_command_compares_with_an_earlier_report_and_ends_with_1(tmp_path, monkeypatch, reference):
    noise = [1.0001]
    add = fake_format(monkeypatch, reference)
    add("litert", spoil=lambda scores: scores * noise[0])
    add("absent", available=Availability(None, "needs macOS"))
    artifact = write_artifact(tmp_path / "net-fp16", tiny_spec(), reference, precision="fp16")
    first = tmp_path / "first"
    write_report(judge_runs(run_artifacts([artifact])), first)
    monkeypatch.chdir(tmp_path)
    arguments = ["verify", str(artifact.path), "--baseline", str(first / "verdicts.json"), "--report", "second"]
    same = CliRunner().invoke(main, arguments)
    assert same.exit_code == 0, same.output
    assert "no worse: 2 verdicts compared" in same.stdout
    noise[0] = 1.001
    worse = CliRunner().invoke(main, arguments)
    assert worse.exit_code == 1
    assert "worse: net-fp16 on litert: worst SQNR fell from 80.0 to 60.0 dB" in worse.stdout
    for name in ("verdicts.json", "junit.xml", "report.html", "summary.md"):
        assert "worst SQNR fell from 80.0 to 60.0 dB" in (tmp_path / "second" / name).read_text(), name
    document = json.loads((tmp_path / "second" / "verdicts.json").read_text())
    assert not document["passed"]
    assert [verdict["status"] for verdict in document["verdicts"]] == ["passed", "unavailable"]


def test_a_baseline_that_is_missing_is_said_before_anything_runs(tmp_path, monkeypatch, reference):
    fake_format(monkeypatch, reference)()
    artifact = write_artifact(tmp_path / "net-fp16", tiny_spec(), reference)
    done = CliRunner().invoke(main, ["verify", str(artifact.path), "--baseline", str(tmp_path / "none.json")])
    assert done.exit_code == 2
    assert "none.json does not exist" in done.stderr
