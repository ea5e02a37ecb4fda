"""Thresholds that a project sets in its pyproject.toml: tighter at will, lower only with a reason."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from fake_format import fake_format
from helpers import tiny_reference, tiny_spec, write_artifact
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.parity import THRESHOLDS, find_config, read_thresholds, verify


def config(folder, text, table="[tool.mobilevit.parity.fp16]"):
    path = folder / "pyproject.toml"
    path.write_text(f"{table}\n{text}\n")
    return path


def test_without_a_config_the_defaults_hold():
    assert read_thresholds(None) == THRESHOLDS


def test_a_project_tightens_one_precision_and_leaves_the_others(tmp_path):
    found = read_thresholds(config(tmp_path, "sqnr_db = 45\ntop1_agreement = 1.0"))
    assert (found["fp16"].sqnr_db, found["fp16"].top1_agreement, found["fp16"].reason) == (45.0, 1.0, None)
    assert found["fp32"] == THRESHOLDS["fp32"]


def test_a_project_holds_integers_to_a_share_of_its_task(tmp_path):
    path = config(tmp_path, "task_agreement = 0.98", "[tool.mobilevit.parity.int8]")
    assert read_thresholds(path)["int8"].task_agreement == 0.98
    config(tmp_path, "task_agreement = 0.9", "[tool.mobilevit.parity.int8]")
    with pytest.raises(RequestError, match=r"0\.9 of the task's classes instead of 0\.93; state why"):
        read_thresholds(path)
    config(tmp_path, 'task_agreement = 0.9\nreason = "all classes are cats"', "[tool.mobilevit.parity.int8]")
    assert read_thresholds(path)["int8"].task_agreement == 0.9


@pytest.mark.parametrize("line", ["sqnr_db = 39.9", "top1_agreement = 0.98"])
def test_less_than_the_default_needs_a_reason(tmp_path, line):
    path = config(tmp_path, line)
    with pytest.raises(RequestError, match=r'instead of .*; state why: reason = "..."'):
        read_thresholds(path)
    config(tmp_path, f'{line}\nreason = "our classes are far apart"')
    assert read_thresholds(path)["fp16"].reason == "our classes are far apart"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sqnr = 45", "unknown key 'sqnr'; did you mean sqnr_db"),
        ("top_1_agreement = 1.0", "did you mean top1_agreement"),
        ("sqnr_db = '45'", "sqnr_db must be a number, not '45'"),
        ("sqnr_db = true", "be a number, not True"),
        ("sqnr_db = nan", "between 0 and 200, not nan"),
        ("sqnr_db = inf", "between 0 and 200, not inf"),
        (f"sqnr_db = {10**400}", "between 0 and 200, not 1000"),
        ("top1_agreement = 99", "between 0 and 1, not 99"),
        ("task_agreement = 0.99", "unknown key 'task_agreement'; did you mean top1_agreement"),  # floats are not judged
        ("sqnr_db = 30\nreason = 7", "reason must be a sentence"),
        ("sqnr_db = 30\nreason = ' '", "reason must be a sentence"),
        ("[tool.mobilevit.parity.fp61]\nsqnr_db = 50", "unknown key 'fp61'; did you mean fp16"),
        ("[tool.mobilevit.partiy.fp16]\nsqnr_db = 50", "unknown key 'partiy'; did you mean parity"),
        ("sqnr_db = ", "cannot be read as TOML"),
        ("sqnr_db = " + "[" * 5000, "cannot be read as TOML"),
    ],
)
def test_a_mistake_is_one_line_with_the_place_and_the_nearest_key(tmp_path, text, match):
    path = config(tmp_path, text)
    with pytest.raises(RequestError, match=match) as caught:
        read_thresholds(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\nmobilevit = 3", "[tool.mobilevit]\nparity = [1]"])
def test_tables_that_are_none_say_so(tmp_path, text):
    path = config(tmp_path, "", text)
    with pytest.raises(RequestError, match="must be a table"):
        read_thresholds(path)


def test_a_config_without_the_table_is_no_config(tmp_path):
    path = config(tmp_path, "line-length = 120", "[tool.ruff]")
    with pytest.raises(RequestError, match=r"has no table \[tool.mobilevit.parity"):
        read_thresholds(path)


@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_content_is_thresholds_or_one_error(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "pyproject.toml"
    path.write_bytes(b"[tool.mobilevit.parity.fp16]\n" + content)
    found, message = THRESHOLDS, ""
    try:
        found = read_thresholds(path)
    except RequestError as error:
        message = str(error)
    assert "\n" not in message
    assert all(found[name].sqnr_db >= default.sqnr_db or found[name].reason for name, default in THRESHOLDS.items())


def test_the_nearest_pyproject_with_the_table_is_found_from_below(tmp_path):
    path = config(tmp_path, "sqnr_db = 45")
    (inner := tmp_path / "package" / "deep").mkdir(parents=True)
    (tmp_path / "package" / "pyproject.toml").write_text("[project]\nname = 'inner'\n")
    assert find_config(inner) == path
    nearer = config(inner, "sqnr_db = 50")
    assert find_config(inner) == nearer


def test_a_pyproject_that_cannot_be_read_is_not_passed_over(tmp_path):
    config(tmp_path, "sqnr_db = 45")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "pyproject.toml").write_text("[tool")
    with pytest.raises(RequestError, match="cannot be read as TOML"):
        find_config(tmp_path / "inner")


@pytest.fixture(scope="module")
def reference():
    return tiny_reference()


@pytest.fixture
def artifact(tmp_path, monkeypatch, reference):
    fake_format(monkeypatch, reference)(spoil=lambda scores: scores * 1.008)  # 42 dB
    return write_artifact(tmp_path / "half", tiny_spec(), reference, precision="fp16")


def test_the_project_decides_whether_an_artifact_passes(artifact, tmp_path):
    assert verify([artifact])[0].status == "passed"
    tightened = read_thresholds(config(tmp_path, "sqnr_db = 45"))
    (verdict,) = verify([artifact], thresholds=tightened)
    assert (verdict.status, verdict.thresholds.sqnr_db) == ("failed", 45.0)
    assert "is below 45 dB" in verdict.reason


def test_the_command_finds_the_project_and_prints_the_reason_for_less(artifact, tmp_path, monkeypatch):
    config(tmp_path, 'sqnr_db = 30\nreason = "logits of this head are large"')
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["verify", str(artifact.path), "--report", "report"])
    assert done.exit_code == 0, done.output
    assert (
        "fp16 has lowered thresholds, 30 dB and 0.99 of the best classes: logits of this head are large" in done.stdout
    )
    for name in ("verdicts.json", "junit.xml", "report.html", "summary.md"):
        assert "logits of this head are large" in (tmp_path / "report" / name).read_text(), name
    held = json.loads((tmp_path / "report" / "verdicts.json").read_text())["verdicts"][0]["thresholds"]
    reason = "logits of this head are large"
    assert held == {
        "sqnr_db": 30.0,
        "top1_agreement": 0.99,
        "task_agreement": None,
        "task_sqnr_db": None,
        "reason": reason,
    }


def test_a_lower_share_of_the_task_is_printed_with_its_reason(tmp_path, reference, monkeypatch):
    fake_format(monkeypatch, reference)(spoil=lambda scores: scores * 1.1)
    artifact = write_artifact(tmp_path / "integers", tiny_spec(), reference, precision="int8")
    config(
        tmp_path, 'task_agreement = 0.9\nreason = "half of the photographs are blurred"', "[tool.mobilevit.parity.int8]"
    )
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["verify", str(artifact.path)])
    assert done.exit_code == 0, done.output
    assert "0.9 of the task's classes and 10 dB there: half of the photographs are blurred" in done.stdout


def test_a_config_that_is_named_goes_before_the_one_that_is_found(artifact, tmp_path, monkeypatch):
    config(tmp_path, "sqnr_db = 41")
    (tmp_path / "strict").mkdir()
    strict = config(tmp_path / "strict", "sqnr_db = 60")
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["verify", str(artifact.path)]).exit_code == 0
    assert CliRunner().invoke(main, ["verify", str(artifact.path), "--config", str(strict)]).exit_code == 1
