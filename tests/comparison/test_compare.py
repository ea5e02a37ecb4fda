"""`mobilevit compare`: every file is a row, a failure stops no other, nothing is done twice, and floors fail."""

from __future__ import annotations

import json
import re
from functools import partial

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from labeled_images import pictures, write_folder
from made_once import in_this_process
from rich.console import Console
from stand_in_format import StandInConverter, TimedStandInRuntime, install
from tiny_networks import phone_checkpoint, with_tasks

from mobilevit_sdk import compare_formats, evaluate, predict, save_checkpoint
from mobilevit_sdk.artifacts import reference as artifacts
from mobilevit_sdk.bench import BenchResult, Row, describe_machine
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import compare as command
from mobilevit_sdk.cli import main
from mobilevit_sdk.comparison import RowFound, timing
from mobilevit_sdk.comparison.plan import plan_comparison
from mobilevit_sdk.conversion import phone_file, pipeline
from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.formats import converter as plug_ins
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.parity import THRESHOLDS, Threshold
from mobilevit_sdk.spec import MemoryTask


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    made, path = phone_checkpoint("mobilevit"), tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(made.model, made.spec, path)
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory, checkpoint):
    """Twelve pictures, each of the class that PyTorch sees in it."""
    encoded = [image for image, _ in pictures(12)]
    folder = tmp_path_factory.mktemp("data")
    for index, image in enumerate(encoded):
        (folder / f"{index}.png").write_bytes(image)
    best = [each.classes[0].index for each in predict(folder, checkpoint, top=1).predictions]
    for path in folder.iterdir():
        path.unlink()
    return write_folder(folder, list(zip(encoded, best, strict=True)))


@pytest.fixture(autouse=True)
def _here(monkeypatch, request):
    """Conversions and answers in this process, without the audit, and afterwards the formats that are installed."""
    if "slow" in request.keywords:
        yield
        return
    monkeypatch.setattr(phone_file, "audit", lambda *_: [])
    with in_this_process():
        yield
    monkeypatch.undo()
    plug_ins.converters.cache_clear()


def statuses(comparison):
    return {f"{row.name} {row.precision}": row.status for row in comparison.rows}


def _late(number, scores, *, after, then):
    return then(scores) if number > after else scores


def _raise(scores):
    raise ToolchainError("it died")


CASES = 27  # of the gate, which come before the images


def test_every_file_is_a_row_and_what_fails_stops_no_other(checkpoint, data, tmp_path, monkeypatch):
    formats = [
        StandInConverter("alpha", precisions=("fp32", "fp16"), runtime=TimedStandInRuntime),
        StandInConverter("beta", backend="one", fails="no operator <b>foo</b>"),
        StandInConverter("beta", backend="two"),
        StandInConverter("delta", missing="install it with pip"),
        StandInConverter("gamma", available=Availability(None, "needs a phone")),
        StandInConverter("wrong", spoil=lambda number, scores: scores + 0.1 * np.arange(len(scores))),
        StandInConverter("zeta", spoil=partial(_late, after=CASES, then=_raise)),
    ]
    install(monkeypatch, *formats)
    found = compare_formats(checkpoint, data=data, out=tmp_path, timed=False)
    assert statuses(found) == {
        "alpha fp32": "passed",
        "alpha fp16": "passed",
        "beta fp32": "not converted",
        "beta-two fp32": "passed",
        "delta fp32": "not converted",
        "gamma fp32": "not executed",
        "wrong fp32": "failed",
        "zeta fp32": "error",
    }
    reasons = {row.name: row.reason for row in found.rows if row.reason}
    assert "no operator <b>foo</b>" in reasons["beta"]
    assert "install it with pip" in reasons["delta"]
    assert "stand-in: needs a phone" in reasons["gamma"]
    assert "is below 90 dB" in reasons["wrong"]
    assert reasons["zeta"] == "stand-in on the images: it died"
    assert (found.missed, found.broken) == (True, True)
    page, table = (tmp_path / "report.html").read_text(), (tmp_path / "comparison.md").read_text()
    assert "no operator &lt;b&gt;foo" in page
    assert "<b>foo" not in page + table
    assert page.count('<tr class="why">') == len(reasons)
    assert json.loads((tmp_path / "comparison.json").read_text())["rows"][3]["name"] == "beta-two"
    assert msgspec.json.decode((tmp_path / "comparison.json").read_bytes(), type=type(found)) == found


def test_what_the_files_share_is_made_once(checkpoint, data, tmp_path, monkeypatch):
    made = []

    def reference_of_sizes(*given):
        made.append(given)
        return artifacts.reference_of_sizes(*given)

    monkeypatch.setattr(pipeline, "reference_of_sizes", reference_of_sizes)
    install(monkeypatch, StandInConverter("alpha", precisions=("fp32", "fp16")), StandInConverter("beta"))
    found = compare_formats(checkpoint, data=data, out=tmp_path, timed=False)
    assert len(found.rows) == 3
    assert len(made) == 1


def test_numbers_are_those_of_the_images_beside_pytorch_s(checkpoint, data, tmp_path, monkeypatch):
    """A file that answers three of twelve images upside down agrees on nine, and is right on nine."""

    def turn(number, scores):
        return -scores if CASES < number <= CASES + 3 else scores

    install(monkeypatch, StandInConverter("alpha"), StandInConverter("beta", spoil=turn))
    found = compare_formats(checkpoint, data=data, out=tmp_path, limit=12, timed=False)
    assert (found.images, found.top1, found.top5) == (12, 1, 1)
    same, turned = found.rows
    assert (same.same_class, same.top1, same.bytes) == (1, 1, len("None fp32 1"))
    assert (turned.same_class, turned.top1, turned.status) == (9 / 12, 9 / 12, "passed")
    assert same.sqnr_db > 90


def test_a_repeated_call_does_nothing_twice_and_an_interrupted_one_goes_on(checkpoint, data, tmp_path, monkeypatch):
    stop = StandInConverter("beta", spoil=partial(_late, after=CASES + 4, then=lambda scores: _interrupt()))
    first, last = StandInConverter("alpha"), StandInConverter("gamma")
    install(monkeypatch, first, stop, last)
    rows = []
    compare = partial(compare_formats, checkpoint, data=data, out=tmp_path, timed=False)
    with pytest.raises(KeyboardInterrupt):
        compare(progress=lambda step: rows.append(step.row.name) if isinstance(step, RowFound) else None)
    assert (rows, first.runtime.answers) == (["alpha"], CASES + 12)
    stop.runtime.spoil = lambda number, scores: scores
    whole = compare()
    asked = [each.runtime.answers for each in (first, stop, last)]
    assert asked == [CASES + 12, CASES + 5 + 12, CASES + 12]  # the gate's cases of the second file not again
    assert [len(each.conversions) for each in (first, stop, last)] == [1, 1, 1]
    assert compare() == whole
    assert [each.runtime.answers for each in (first, stop, last)] == asked
    for step in (tmp_path / "steps").iterdir():
        step.write_bytes(step.read_bytes()[:40])
    assert compare() == whole  # what is damaged is done again
    assert first.runtime.answers == 2 * (CASES + 12)
    last.runtime.available = Availability("2.0")
    assert compare().rows[2].runtime_version == "2.0"
    assert first.runtime.answers == 2 * (CASES + 12)
    strict = THRESHOLDS | {"fp32": Threshold(sqnr_db=199.0, top1_agreement=1.0)}
    assert {row.status for row in compare(thresholds=strict).rows} == {"failed"}
    assert first.runtime.answers == 2 * (CASES + 12) + CASES  # the images not again
    assert compare(limit=5, thresholds=strict).images == 5
    assert first.runtime.answers == 2 * (CASES + 12) + CASES + 5


def _interrupt():
    raise KeyboardInterrupt


def test_latencies_are_measured_together_once_and_kept_when_all_are_there(checkpoint, data, tmp_path, monkeypatch):
    timed = partial(StandInConverter, runtime=TimedStandInRuntime)
    install(monkeypatch, timed("alpha"), timed("beta"), StandInConverter("gamma"))
    calls = []

    def bench(candidates, *, threads, against, rounds, progress):
        calls.append([candidate.runtime for candidate in candidates])
        rows = [Row(c.artifact, c.runtime, 1, median_ms=float(n), p90_ms=9.0) for n, c in enumerate(candidates, 1)]
        if len(calls) == 1:
            rows[2] = Row(candidates[2].artifact, "stand-in", 1, status="error", reason="it ran out of memory")
        return BenchResult(describe_machine(), rounds, 10, {1: 1.0}, rows)

    monkeypatch.setattr(timing, "bench", bench)
    compare = partial(compare_formats, checkpoint, data=data, out=tmp_path)
    found = compare()
    assert [row.untimed for row in found.rows][:2] == [None, "it ran out of memory"]
    found = compare()
    assert (found.median_ms, [row.median_ms for row in found.rows]) == (1.0, [2.0, 3.0, None])
    assert list(found.untimed_runtimes) == ["stand-in"]
    assert compare() == found
    assert calls == [["pytorch", "stand-in", "stand-in"]] * 2


def test_floors_decide_the_exit_code_and_the_table_fits_a_terminal(data, tmp_path, monkeypatch, checkpoint):
    def turn(number, scores):
        return -scores if CASES < number <= CASES + 3 else scores

    bad = StandInConverter("a-long-name", backend="of-a-backend", spoil=turn)
    install(monkeypatch, StandInConverter("alpha"), bad, StandInConverter("late", available=Availability(None, "no")))
    shown = Console(width=80, force_terminal=True, color_system=None, record=True)
    monkeypatch.setattr(shown.file, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(command, "out", shown)
    given = ["compare", checkpoint.source, "--data", str(data), "--out", str(tmp_path), "--no-bench"]

    def code(*options):
        return CliRunner().invoke(main, [*given, *options]).exit_code

    assert code() == 0  # what nothing here runs is no failure, unless it is named
    table = shown.export_text().splitlines()
    assert max(map(len, table)) <= 80
    assert any(re.fullmatch(r"alpha +fp32 +passed .*%.*", line) for line in table), table
    assert any("nothing here runs it (stand-in: no)" in line for line in table)
    assert code("--to", "alpha,late") == 3
    assert code("--to", "alpha", "--max-drop", "0") == 0
    assert code("--to", "a-long-name", "--max-drop", "24") == 1
    assert code("--to", "a-long-name", "--max-drop", "25", "--min-top1", "75") == 0
    assert code("--to", "a-long-name", "--min-top1", "75.1") == 1
    assert "75.00% is 25.00 points below PyTorch's, at most 24 may be" in " ".join(shown.export_text().split())
    document = json.loads(CliRunner().invoke(main, [*given, "--json"]).stdout)
    assert [row["status"] for row in document["rows"]] == ["passed", "passed", "not executed"]
    assert CliRunner().invoke(main, [*given, "--backend", "nope"]).exit_code == 2


def test_integers_are_never_calibrated_on_the_images_that_judge_them(checkpoint, data, tmp_path, monkeypatch):
    install(monkeypatch, StandInConverter("alpha", precisions=("fp32", "int8")))
    with pytest.raises(RequestError, match=r"12 of the 12 images to calibrate with are among those of `data`"):
        compare_formats(checkpoint, data=data, out=tmp_path, calibration=data)
    assert not (tmp_path / "artifacts").exists()


def test_a_plan_is_all_that_is_installed_or_what_is_named(monkeypatch):
    precisions = ("fp16", "int8")
    install(
        monkeypatch,
        StandInConverter("alpha", precisions=precisions),
        StandInConverter("beta", backend="one"),
        StandInConverter("beta", backend="two", precisions=precisions),
    )

    def names(**given):
        return [conversion.name for conversion in plan_comparison(**given)]

    assert names() == ["alpha fp16", "alpha int8", "beta fp32", "beta-two fp16", "beta-two int8"]
    assert names(precisions=["int8"]) == ["alpha int8", "beta-two int8"]
    assert names(backends=["default"], precisions=["fp16", "fp32"]) == ["alpha fp16", "beta fp32"]
    assert names(formats=["beta"], backends=["two"]) == ["beta-two fp16", "beta-two int8"]
    for wrong, message in (
        ({"formats": ["gamma"]}, "unknown format 'gamma'"),
        ({"backends": ["three"]}, "'three' among its backends"),
        ({"precisions": ["fp8"]}, "'fp8' among its precisions"),
        ({"backends": ["one"], "precisions": ["int8"]}, "no format has these backends in these precisions"),
    ):
        with pytest.raises(RequestError, match=message):
            names(**wrong)


def test_several_outputs_are_all_held_and_the_images_ask_one(tmp_path, monkeypatch):
    """A file whose pets are noisy fails for them, though its own classes are right, and the table says which."""
    pets = MemoryTask(name="pets", num_classes=3, cells=2, labels=("cat", "dog", "fish"))
    both = with_tasks(phone_checkpoint("vit"), pets, seed=8)
    folder = tmp_path / "data"
    for at, (image, _) in enumerate(pictures(6)):
        (folder / ("cat", "dog")[at % 2]).mkdir(parents=True, exist_ok=True)
        (folder / ("cat", "dog")[at % 2] / f"{at}.png").write_bytes(image)

    def spoil(number, row):
        return row + np.float32(0.3) * np.array([0, 0, 0, 0, 0, 0, number % 2, 1 - number % 2], np.float32)

    install(monkeypatch, StandInConverter("alpha"), StandInConverter("beta", spoil=spoil))
    compare = partial(compare_formats, both, data=folder, out=tmp_path / "out", timed=False)
    found = compare(task="pets")
    right, wrong = found.rows
    assert (right.status, right.same_class, right.top1) == ("passed", 1, found.top1)
    assert found.top1 == evaluate(both, data=folder, task="pets").accuracy.top1
    assert (wrong.status, wrong.sqnr_output) == ("failed", "pets")
    assert wrong.reason.startswith("stand-in: pets: SQNR")
    assert (found.task, found.outputs) == ("pets", ("logits", "pets"))
    page, table = (tmp_path / "out/report.html").read_text(), (tmp_path / "out/comparison.md").read_text()
    assert f"{wrong.sqnr_db:.1f} (pets)" in page
    assert f"| {wrong.sqnr_db:.1f} (pets) |" in table
    assert "top-1 are of pets; the gate holds logits, pets" in table
    with pytest.raises(RequestError, match="2 classes, but the head of"):
        compare()
    with pytest.raises(RequestError, match="answers no task called 'food'"):
        compare(task="food")


@pytest.mark.slow
def test_real_formats_side_by_side(phone_files, data, tmp_path):
    for package in ("ai_edge_litert", "executorch"):
        pytest.importorskip(package)
    formats = ("tflite", "executorch")
    options = {"formats": formats, "precisions": "fp32", "backends": "default", "rounds": 1}
    found = compare_formats(phone_files.checkpoint(), data=data, out=tmp_path, **options)
    rows = {row.name: row for row in found.rows}
    assert {rows[name].status for name in formats} == {"passed"}
    assert all(rows[name].same_class == 1 and rows[name].median_ms for name in formats)
