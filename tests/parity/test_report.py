"""The report: what each file holds, and how the page does in a browser."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import re
import shutil
import subprocess
from importlib import metadata
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from device_reports import device_report, device_run
from fake_format import fake_format
from helpers import tiny_reference, tiny_spec, write_artifact
from PIL import Image

from mobilevit_sdk.artifacts.quantization_record import Judgment, QuantizationRecord
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.parity import judge_runs, run_artifacts
from mobilevit_sdk.parity.device import Device, device_runs
from mobilevit_sdk.parity.outcome import Divergence
from mobilevit_sdk.parity.report import append_summary, plots, write_report
from mobilevit_sdk.parity.report.pictures import SIDE

HOSTILE = "<script>alert(1)</script>"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def reference():
    return tiny_reference()


@pytest.fixture
def outcome(tmp_path, monkeypatch, reference):
    """Every status there is; labels and runtimes that would break a page if they could."""
    noise = np.random.default_rng(0)
    add = fake_format(monkeypatch, reference)
    add("good", spoil=lambda scores: scores + noise.normal(size=scores.shape).astype(np.float32) * 1e-6)
    add("<bad>", spoil=lambda scores: -scores)
    add("absent", available=Availability(None, "needs macOS"))
    add("broken", spoil=lambda scores: scores * np.float32(np.nan))
    spec = tiny_spec()
    labels = (HOSTILE, "a label that is rather long, " * 4, *spec.labels[2:])
    artifacts = [
        write_artifact(tmp_path / name, msgspec.structs.replace(spec, labels=labels), reference)
        for name in ("first_network_with_a_long_name-tflite-fp32", "second-fp32")
    ]
    return judge_runs(run_artifacts(artifacts))


@pytest.fixture
def folder(outcome, tmp_path):
    write_report(outcome, tmp_path / "report")
    return tmp_path / "report"


def test_the_json_is_the_document_of_the_command(outcome, folder):
    document = json.loads((folder / "verdicts.json").read_text())
    assert document == json.loads(json.dumps(outcome.to_json()))
    assert [verdict["status"] for verdict in document["verdicts"]] == ["passed", "failed", "unavailable", "failed"] * 2
    assert len(document["pairs"]) == 15


def test_junit_has_a_case_with_its_time_for_each_artifact_and_runtime_and_counts_them(outcome, folder):
    root = ElementTree.parse(folder / "junit.xml").getroot()
    verdicts, pairs = root
    counts = {key: verdicts.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "8", "failures": "4", "errors": "0", "skipped": "2"}
    assert len(verdicts.findall("testcase")) == 8
    assert len({(case.get("classname"), case.get("name")) for case in verdicts.iter("testcase")}) == 8
    assert int(root.get("tests")) == 8 + len(pairs.findall("testcase"))
    assert int(root.get("failures")) == 4 + len(pairs.findall(".//failure"))
    failure = verdicts.find(".//failure")
    assert "below 90 dB" in failure.get("message")
    assert failure.get("message") in failure.text
    assert failure.get("type") == "failed"
    assert verdicts.find(".//skipped").get("message") == "needs macOS"
    seconds = [float(case.get("time")) for case in verdicts.iter("testcase")]
    assert float(root.get("time")) == pytest.approx(sum(seconds), abs=0.01)
    assert [run.seconds > 0 for run in outcome.runs] == [time > 0 for time in seconds]


def test_the_summary_is_markdown_that_nothing_in_it_can_break(outcome, tmp_path, folder):
    text = (folder / "summary.md").read_text()
    assert text.startswith("## Parity: not passed\n")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 8
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {10}
    assert "<bad>" not in text
    (file := tmp_path / "steps.md").write_text("before\n")
    append_summary(outcome, file)
    assert file.read_text() == "before\n" + text
    with pytest.raises(RequestError, match="cannot write"):
        append_summary(outcome, tmp_path)


def test_the_page_holds_everything_and_escapes_what_it_shows(folder):
    text = (folder / "report.html").read_text()
    assert HOSTILE not in text
    assert html.escape(HOSTILE) in text
    assert "<bad>" not in text
    for heading in ("Verdicts", "Agreement with each other", "Sizes", "Delegate coverage", "Five best classes"):
        assert f">{heading}<" in text
    assert text.count("<svg") == 3 * 6 - 2 * 2  # no scatter and no histogram of scores that are not finite
    assert "needs macOS" in text
    assert len(text) < 1_000_000


def test_the_head_names_checkpoint_versions_precision_and_images(outcome, tmp_path):
    text = _text_of_page(outcome, tmp_path)
    assert "checkpoint random weights, seed 0" in text
    assert "precision fp32" in text
    assert f"verified by mobilevit-sdk {metadata.version('mobilevit-sdk')}" in text
    assert "images 27 from the stored reference vectors" in text
    run = outcome.runs[0]
    photos = dataclasses.replace(run, reference=dataclasses.replace(run.reference, images="<photos>"))
    text = _text_of_page(dataclasses.replace(outcome, runs=(photos, *outcome.runs[1:])), tmp_path)
    assert "images 27 from <photos>, 27 from the stored reference vectors" in text


def _text_of_page(outcome, folder):
    write_report(outcome, folder / "page")
    body = (folder / "page" / "report.html").read_text().partition("<body>")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_page_asks_for_nothing_from_anywhere(folder):
    text = (folder / "report.html").read_text()
    assert re.findall(r"(?:src|href|action)=\"(?!#|data:)[^\"]*\"", text) == []
    assert re.findall(r"url\((?!data:)", text) == []
    assert not re.search(r"<(script|iframe|object|embed)|@import|http-equiv|https?://", text)


def test_a_thumbnail_is_stored_once_for_all_runs(folder):
    text = (folder / "report.html").read_text()
    (sheet,) = re.findall(r"data:image/webp;base64,([^)]*)", text)
    shown = set(re.findall(r"background-position:([^\"]*)", text))
    assert text.count('class="thumb"') > 2 * len(shown) > 20
    image = Image.open(io.BytesIO(base64.b64decode(sheet)))
    assert image.size == (8 * SIDE, -(-len(shown) // 8) * SIDE)


def test_the_error_by_depth_is_drawn_where_it_is_known_and_names_the_fall(outcome, tmp_path):
    operators = (("stem", 118.0), ("stages.0.0", 117.0), ("stages.2.1.attention", 61.0), ("classifier", 60.5))
    message = "diverges at softmax in stages.2.1.attention"
    divergence = Divergence(
        artifact=outcome.verdicts[0].artifact, runtime="good", message=message, operators=operators, culprit=2
    )
    write_report(dataclasses.replace(outcome, divergences=(divergence,)), tmp_path / "report")
    text = (tmp_path / "report" / "report.html").read_text()
    assert text.count(">Error by depth on good<") == 2  # of the two runs of that artifact that failed
    assert ">stages.2.1.attention</text>" in text
    for name in ("report.html", "junit.xml", "summary.md"):
        assert message.replace("_", "\\_") in (tmp_path / "report" / name).read_text(), name
    assert json.loads((tmp_path / "report" / "verdicts.json").read_text())["divergences"][0]["culprit"] == 2


def test_the_page_shows_how_an_integer_artifact_was_judged(outcome, tmp_path):
    judgment = Judgment(
        runtime="good",
        images=50,
        agreement=0.96,
        min_agreement=0.93,
        overall_sqnr_db=18.0,
        min_sqnr_db=10.0,
        worst_sqnr_db=12.5,
        median_sqnr_db=20.0,
        top1_float=0.9,
        top1=0.88,
        rejected=False,
    )
    record = QuantizationRecord(
        recipe=QuantizationRecipe(),
        images="photos",
        data_free=False,
        calibrated_with=100,
        images_sha256="0" * 64,
        judgment=judgment,
    )
    first, *others = outcome.runs
    manifest = msgspec.structs.replace(first.artifact.manifest, quantization=record)
    judged = dataclasses.replace(first, artifact=dataclasses.replace(first.artifact, manifest=manifest))
    write_report(dataclasses.replace(outcome, runs=(judged, *others)), tmp_path / "report")
    text = (tmp_path / "report" / "report.html").read_text()
    for fact in (
        "96% <small>of 50, at least 93%",
        "88.00% <small>-2.00 points",
        "12.5 dB <small>median 20.0 dB",
        "18.0 dB <small>at least 10 dB",
    ):
        assert fact in text, fact


def test_a_scatter_of_many_scores_stays_small_and_keeps_the_worst(reference):
    scores = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
    spoilt = scores.copy()
    spoilt[40, 700] = 50.0
    plot = plots.scatter(scores, spoilt)
    assert len(plot) < 40_000
    assert plot.count("h0") <= plots.MAX_POINTS
    highest = min(float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h0", plot))
    others = plots.scatter(scores, scores)
    assert highest < 42 < min(float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h0", others)) + 10


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [1e-30, -1e-30], [200.0, -200.0], [1e38, -1e38]])
def test_plots_of_extreme_values_are_plots(values):
    scores = np.array([values], np.float32)
    for plot in (plots.scatter(scores, scores), plots.histogram(scores), plots.ranked(values, 40.0)):
        assert plot.startswith("<svg")
        assert "nan" not in plot
        ElementTree.fromstring(plot)
    ElementTree.fromstring(plots.depth([("a<b", value) for value in values], 0))


def browse(page, tmp_path, width):
    """Open a page in a headless browser, in a frame of that width; what the probe in it found and what was logged."""
    probe = """<script>addEventListener("load", () => {
        const root = document.documentElement;
        const wide = [...document.querySelectorAll("body *")].filter(
            e => !e.closest(".pairs table, svg") && e.getBoundingClientRect().right > innerWidth + 0.5);
        parent.document.title = JSON.stringify({width: innerWidth, scroll: root.scrollWidth,
            wide: wide.map(e => e.tagName + "." + e.className).slice(0, 5),
            plots: document.querySelectorAll("svg").length,
            hidden: [...document.querySelectorAll("svg")].filter(e => e.getBoundingClientRect().height < 100).length,
            fetched: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:"))});
    })</script>"""
    framed = html.escape(page.replace("</body>", f"{probe}</body>"), quote=True)
    (file := tmp_path / "frame.html").write_text(
        f'<body style="margin:0"><iframe srcdoc="{framed}" style="border:0;width:{width}px;height:900px"></iframe>'
    )
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--window-size=1400,1000"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=1800, check=False)
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title, done.stderr[-2000:]
    return json.loads(html.unescape(title.group(1))), re.findall(r".*CONSOLE.*", done.stderr)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
@pytest.mark.parametrize("width", [390, 1000, 1280])
def test_a_browser_shows_the_page_without_errors_requests_or_overflow(folder, tmp_path, width):
    page = (folder / "report.html").read_text()
    found, console = browse(page, tmp_path, width)
    assert found["width"] == width
    assert found["scroll"] <= width, found["wide"]
    assert found["wide"] == []
    assert found["fetched"] == []
    assert (found["plots"], found["hidden"]) == (14, 0)
    assert console == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_a_phone_with_a_long_name_fits_a_phone(reference, tmp_path):
    artifact = write_artifact(tmp_path / "one", tiny_spec(), reference)
    phone = Device(model="M" * 200, system="a system with many words " * 8, processor=HOSTILE)
    report = device_report(artifact, device_run(artifact), device=phone)
    write_report(judge_runs(device_runs(artifact, report)), tmp_path / "report")
    found, console = browse((tmp_path / "report" / "report.html").read_text(), tmp_path, 390)
    assert (found["wide"], found["fetched"], console) == ([], [], [])


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_the_browser_would_have_noticed(folder, tmp_path):
    page = (folder / "report.html").read_text()
    bad = '<div style="width:2000px">wide</div><img src="http://127.0.0.1:9/x.png"><script>nothing.there()</script>'
    found, console = browse(page.replace("<h1>", f"{bad}<h1>"), tmp_path, 390)
    assert found["scroll"] > 390
    assert found["fetched"] == ["http://127.0.0.1:9/x.png"]
    assert any("nothing is not defined" in line for line in console)
