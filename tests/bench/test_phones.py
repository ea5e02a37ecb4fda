"""What phones measured, as their device reports say: a row for each run, and what must not be compared is marked."""

from __future__ import annotations

import json
import shutil

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from device_reports import device_report, device_run
from helpers import tiny_reference, tiny_spec, write_artifact
from terminal import in_terminal

from mobilevit_sdk.artifacts.artifact import open_artifact
from mobilevit_sdk.bench import phone_rows
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.parity.device import Device, Latency, Timing, write_device_report

HOT = Device(model="Galaxy $24", system="Android 14", processor=None)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return write_artifact(tmp_path_factory.mktemp("artifact") / "one", tiny_spec(), tiny_reference())


@pytest.fixture(scope="module")
def reports(artifact):
    npu = device_run(artifact, accelerator="npu", cases=(), error="no NPU", latency=None)
    return [
        device_report(artifact, device_run(artifact, accelerator="cpu", fully_accelerated=None), device_run(artifact)),
        device_report(artifact, device_run(artifact, thermal_state="serious"), npu, device=HOT),
    ]


@pytest.fixture
def bench(tmp_path):
    def run(reports, *arguments):
        options = []
        for number, report in enumerate(reports):
            write_device_report(report, tmp_path / f"{number}.device-report.json")
            options += ["--device-report", str(tmp_path / f"{number}.device-report.json")]
        return CliRunner().invoke(main, ["bench", *options, *map(str, arguments)])

    return run


def test_a_row_holds_what_the_phone_measured(artifact, reports):
    row = phone_rows(reports)[1]
    assert (row.device, row.processor, row.runtime, row.fully_accelerated) == (
        "Pixel 8 (Android 15)",
        "Tensor G3",
        "litert-gpu",
        True,
    )
    assert (row.p50_ms, row.p90_ms, row.with_preprocessing_p50_ms, row.with_preprocessing_p90_ms) == (
        4.2,
        9.5,
        6.1,
        6.3,
    )
    assert (row.warm_up, row.samples, row.peak_memory_bytes, row.thermal_state) == (5, 4, 123_456_789, "nominal")
    assert (row.status, row.reason, row.sqnr_db) == ("measured", None, None)


def test_a_throttled_run_and_one_with_an_error_are_marked(reports):
    rows = phone_rows(reports)
    assert [row.status for row in rows] == ["measured", "measured", "throttled", "error"]
    assert "thermal state was serious" in rows[2].reason
    assert (rows[3].reason, rows[3].p50_ms) == ("no NPU", None)


def test_with_the_artifact_answers_of_another_function_are_errors(artifact):
    other = device_report(artifact, device_run(artifact, -artifact.reference().answers))
    good = device_report(artifact)
    rows = phone_rows([good, other], [artifact])
    assert [row.status for row in rows] == ["measured", "error"]
    assert rows[0].sqnr_db == 200
    assert "computes something else than PyTorch" in rows[1].reason
    nan = device_report(artifact, device_run(artifact, np.full_like(artifact.reference().answers, np.nan)))
    assert phone_rows(nan, artifact)[0].status == "error"


def test_a_latency_of_a_file_that_was_changed_since_is_an_error(artifact, tmp_path):
    changed = open_artifact(shutil.copytree(artifact.path.parent, tmp_path / "changed"))
    changed.path.write_bytes(changed.path.read_bytes() + b"more")
    (row,) = phone_rows(device_report(artifact), changed)
    assert (row.status, row.p50_ms) == ("error", None)
    assert "is not the one that its manifest describes" in row.reason


def test_a_report_of_another_file_is_refused_beside_an_artifact(artifact):
    report = device_report(artifact)
    foreign = msgspec.structs.replace(report.artifact, sha256="ab" * 32)
    with pytest.raises(RequestError, match="abab"):
        phone_rows(device_report(artifact, artifact=foreign), artifact)


def test_a_run_without_latency_or_preprocessing_is_told(artifact):
    none = Latency(warm_up=0, inference_ms=Timing.of([1.0]), with_preprocessing_ms=Timing.of([]))
    report = device_report(
        artifact, device_run(artifact, latency=None), device_run(artifact, accelerator="cpu", latency=none)
    )
    first, second = phone_rows(report)
    assert (first.status, first.reason) == ("unmeasured", "the app measured no latency")
    assert (second.p50_ms, second.with_preprocessing_p50_ms) == (1.0, None)


def test_the_command_needs_no_artifact_and_draws(bench, reports, tmp_path):
    good = bench(reports[:1], "--json", "--plot", tmp_path / "latency.png")
    assert good.exit_code == 0, good.output
    document = json.loads(good.stdout)
    assert document["results"] == []
    assert [row["p50_ms"] for row in document["phones"]] == [4.2, 4.2]
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
    assert bench(reports, "--plot", tmp_path / "dollar.png").exit_code == 3  # a run failed; "$" is no formula
    assert (tmp_path / "dollar.png").is_file()


def test_a_phone_whose_name_no_font_holds_is_drawn_without_a_warning(bench, artifact, tmp_path, recwarn):
    phone = Device(model="携帯電話 📱", system="Android 15", processor=None)
    drawn = bench([device_report(artifact, device=phone)], "--plot", tmp_path / "latency.png")
    assert (drawn.exit_code, drawn.stderr) == (0, "")
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]


def test_options_about_an_artifact_need_one(bench, reports):
    assert "give an artifact" in bench([]).stderr
    refused = bench(reports, "--against", "pytorch")
    assert refused.exit_code == 2
    assert "are about an artifact" in refused.stderr


@pytest.mark.parametrize("columns", [50, 60, 80, 130])
def test_the_table_fits_a_terminal(reports, tmp_path, columns):
    options = []
    for number, report in enumerate(reports):
        write_device_report(report, tmp_path / f"{number}.json")
        options += ["--device-report", str(tmp_path / f"{number}.json")]
    shown = in_terminal(columns, "bench", *options)
    assert max(map(len, shown.splitlines())) <= columns
    words = ("Pixel 8 (Android 15) · Tensor G3", "4.20", "9.50", "6.10, 6.30", "serious", "no NPU", "were not compared")
    assert all(word in shown.replace("\n", " ") for word in words)
    assert ("123 MB" in shown) == (columns > 60)
    assert "\nnominal" not in shown  # no cell of a row stands on a line of its own
