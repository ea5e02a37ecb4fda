"""The browser app in a phone-sized browser: its answers, its report, and what it says when something is wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from browser_page import Page, Site, write_site
from helpers import REPOSITORY
from mobilevit_converters.tflite.runtimes.litert import LiteRTRuntime
from mobilevit_converters.tflite.runtimes.web import LiteRTWebRuntime
from phone_files import SharedFiles
from PIL import Image

from mobilevit_sdk.artifacts.artifact import find_artifacts
from mobilevit_sdk.data import crop_image
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.parity.device import device_runs, parse_device_report
from mobilevit_sdk.parity.outcome import judge_runs

AVAILABLE = LiteRTWebRuntime().availability()
pytestmark = pytest.mark.skipif(not AVAILABLE, reason=f"litert-web: {AVAILABLE.reason}")

PHOTOS = Path(sklearn.__file__).parent / "datasets" / "images"
CHINA = PHOTOS / "china.jpg"
DONE = "/Passed|Not passed|not delivered|is ready/.test(document.querySelector('#panel-verify').innerText)"


class Command:
    """The command that waits for reports: it judges them by the artifact, as `mobilevit phone` does."""

    def __init__(self, artifact: Path) -> None:
        self.artifact, self.reports = artifact, list[bytes]()
        self.answers: list[tuple[int, dict[str, Any]] | Exception] = []  # instead of a judgment, one after the other

    def __call__(self, report: bytes) -> tuple[int, dict[str, Any]]:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        self.reports.append(report)
        outcome = judge_runs(device_runs(self.artifact, parse_device_report(report)))
        return 200, {"passed": outcome.passed, "verdicts": [verdict.to_json() for verdict in outcome.verdicts]}


@pytest.fixture(scope="module")
def artifact(phone_files: SharedFiles) -> Path:
    return phone_files.artifact("tflite", "fp32").path.parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """One browser for the tests that need no other flags."""
    with Page("about:blank") as page:
        yield page


@pytest.fixture
def folder(artifact, tmp_path) -> Path:
    """The served files, which a test may damage."""
    return write_site(tmp_path / "site", artifact)


@pytest.fixture
def command(artifact) -> Command:
    return Command(artifact)


@pytest.fixture
def site(folder, command) -> Iterator[Site]:
    site = Site(folder, command)
    yield site
    site.close()


@pytest.fixture
def page(browser, site) -> Page:
    browser.complaints.clear()
    browser.go(site.url())
    return browser


def verify(page: Page) -> str:
    page.click("#tab-verify")
    page.press("Verify")
    page.wait(DONE)
    return page.text("#panel-verify")


def classes(page: Page, screen: str) -> dict[str, float]:
    """The classes on the screen with their shares, once they are there."""
    page.wait(f"document.querySelector('#panel-{screen} .classes li') || !document.querySelector('#error').hidden")
    rows = page.evaluate(
        f"[...document.querySelectorAll('#panel-{screen} .classes li')].map((row) => row.innerText.split('\\n'))"
    )
    return {row[0]: float(row[1].rstrip("%")) / 100 for row in rows}


def test_it_verifies_on_both_accelerators_and_its_report_is_judged(page, command, artifact):
    said = verify(page)
    runs = device_runs(artifact, parse_device_report(command.reports[0]))
    outcome = judge_runs(runs)
    assert [verdict.runtime for verdict in outcome.verdicts] == ["litert-wasm", "litert-webgpu"]
    assert [(verdict.status, verdict.reason) for verdict in outcome.verdicts] == [("passed", None)] * 2
    assert "Passed" in said
    for verdict in outcome.verdicts:  # the page's own numbers are the gate's
        assert f"{verdict.agreement.sqnr_db.worst:.1f} dB" in said
        assert f"{verdict.agreement.cases} of {verdict.agreement.cases}" in said
    report = json.loads(command.reports[0])
    assert [run["fully_accelerated"] for run in report["runs"]] == [None, True]
    assert all(run["latency"]["with_preprocessing_ms"]["p50"] > 0 for run in report["runs"])
    assert report["device"]["system"].startswith("Linux")
    assert page.complaints == []


def test_a_photograph_gets_the_answer_of_the_sdk(page, artifact):
    page.choose_photo(CHINA)
    shares = classes(page, "photo")
    (opened,) = find_artifacts(artifact)
    with Image.open(CHINA) as image:
        pixels = crop_image(image, opened.manifest.spec.preprocessing)
    scores = LiteRTRuntime().load(opened.path)(pixels).astype(np.float64)
    expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    labels = opened.manifest.spec.labels or [f"class {index}" for index in range(len(expected))]
    assert len(shares) == min(5, len(expected))
    for label, share in shares.items():
        assert share == pytest.approx(expected[labels.index(label)], abs=0.01)
    assert max(shares, key=shares.__getitem__) == labels[int(expected.argmax())]
    assert re.search(r"p50\s.* ms|ms\s+p50", page.text("#panel-photo"))


def test_what_the_browser_decodes_and_turns_is_what_the_sdk_does(page, folder):
    shutil.copy(REPOSITORY / "tests/golden/preprocessing.safetensors", folder)
    errors = page.evaluate("""(async () => {
        const [{ readSafetensors }, { decodePhoto }, { fit }] = await Promise.all(
            ["safetensors", "photo", "resize"].map((name) => import(new URL(`src/${name}.js`, location))));
        const file = readSafetensors(await (await fetch("preprocessing.safetensors")).arrayBuffer(), "golden");
        const errors = {};
        for (const { name, resizing } of JSON.parse(file.metadata.cases)) {
            const picture = await decodePhoto(new Blob([file.tensor(`${name}/file`, "U8").data]));
            const made = fit(picture, resizing);
            const { data, shape } = file.tensor(`${name}/expected`, "U8");
            if (made.height !== shape[0] || made.width !== shape[1]) throw new Error(name);
            const apart = Array.from(data, (value, i) => Math.abs(value - made.data[i]));
            errors[name] = [apart.reduce((a, b) => a + b) / apart.length, Math.max(...apart)];
        }
        return errors;
    })()""")
    assert len(errors) > 40
    assert {name: pair for name, pair in errors.items() if pair[0] > 1 or pair[1] > 3} == {}


def test_a_file_that_is_no_picture_is_told(page, tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    page.choose_photo(tmp_path / "notes.jpg")
    assert page.error() == "notes.jpg is not a picture that this browser reads"
    page.choose_photo(CHINA)  # and the next one is welcome
    assert classes(page, "photo")


def change(path: Path, **members: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | members))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


BROKEN = {
    "damaged": (lambda files: flip(files.file), "is damaged: its SHA-256 is not that of its manifest"),
    "truncated": (
        lambda files: files.file.write_bytes(files.file.read_bytes()[:-9]),
        r"is cut short: \d+ of \d+ bytes",
    ),
    "missing": (lambda files: files.file.unlink(), r"is not on the server \(404\)"),
    "a page": (lambda files: files.manifest.write_text("<html>"), "manifest.json is damaged: it is not JSON"),
    "another schema": (lambda files: change(files.manifest, schema=2), "schema is missing or wrong"),
    "other vectors": (lambda files: flip_header(files.reference), "reference.safetensors is damaged"),
    "another format": (
        lambda files: change(files.manifest, format="executorch", file="m.pte"),
        "m.pte is for executorch; in a browser run files for tflite",
    ),
    "no index": (lambda files: files.index.unlink(), r"index.json is not on the server \(404\)"),
    "no artifact": (lambda files: files.index.write_text('{"artifacts": []}'), "names no artifact"),
    "wrong labels": (lambda files: relabel(files.manifest), r"has 1 labels for \d+ scores"),
}


def flip_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def relabel(path: Path) -> None:
    change(path, spec=json.loads(path.read_text())["spec"] | {"labels": ["one"]})


class Files:
    """The served files of the artifact."""

    def __init__(self, folder: Path) -> None:
        self.index = folder / "artifacts/index.json"
        (inside,) = (path for path in (folder / "artifacts").iterdir() if path.is_dir())
        self.manifest, self.reference = inside / "manifest.json", inside / "reference.safetensors"
        self.file = inside / json.loads(self.manifest.read_text())["file"]


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_artifact_is_one_line_on_the_screen(case, browser, site, folder):
    damage, message = BROKEN[case]
    damage(Files(folder))
    browser.go(site.url())
    error = browser.error()
    assert error is not None
    assert re.search(message, error)
    assert "\n" not in error
    browser.click("#tab-verify")
    browser.press("Verify")
    assert browser.error() == error  # it stays, and nothing runs


def test_a_foreign_file_is_refused_by_name_and_the_next_model_runs(browser, command, artifact, tmp_path):
    foreign = tmp_path / "foreign-tflite-fp32"
    shutil.copytree(artifact, foreign)
    folder = write_site(tmp_path / "site", foreign, artifact)
    files = folder / "artifacts" / foreign.name
    file = files / json.loads((files / "manifest.json").read_text())["file"]
    file.write_bytes(b"\0\0\0\0TFL3" + b"\x07" * 5000)
    sha256, size = hash_and_size(file)
    change(files / "manifest.json", sha256=sha256, bytes=size)
    site = Site(folder, command)
    try:
        browser.go(site.url())
        browser.choose_photo(CHINA)
        assert "LiteRT.js does not take the file on wasm" in (browser.error() or "")
        said = verify(browser)
        assert "Not passed" in said or "not delivered" in said
        browser.evaluate(
            f"(() => {{ const list = document.querySelector('#artifact'); list.value = {json.dumps(artifact.name)};"
            "list.dispatchEvent(new Event('change')); })()"
        )
        browser.wait(f"document.body.dataset.ready === {json.dumps(artifact.name)}")
        assert "Passed" in verify(browser)
    finally:
        site.close()


def test_without_litert_the_page_says_so(browser, site, folder):
    shutil.rmtree(folder / "litert")
    browser.go(site.url())
    browser.choose_photo(CHINA)
    assert (browser.error() or "").startswith("LiteRT.js does not load: the server answers 404")


def set_offline(page: Page, offline: bool) -> None:
    unlimited = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.command("Network.emulateNetworkConditions", offline=offline, **unlimited)


def test_a_report_is_kept_while_the_network_is_lost_and_goes_when_it_is_back(page, command):
    verify(page)
    set_offline(page, True)
    try:
        assert "the connection to the command is lost. It is kept here." in verify(page)
    finally:
        set_offline(page, False)
    page.wait("/Passed/.test(document.querySelector('#panel-verify').innerText)")
    assert len(command.reports) == 2


def test_a_command_that_is_busy_may_be_asked_again(page, command):
    command.answers = [(503, {"error": "another phone is being judged"})]
    assert "does not take the report: another phone is being judged. It is kept here." in verify(page)
    page.press("Send again")
    page.wait("/Passed/.test(document.querySelector('#panel-verify').innerText)")
    assert len(command.reports) == 1


def test_a_server_that_is_away_while_the_model_loads_may_be_asked_again(browser, site):
    browser.go(site.url())
    set_offline(browser, True)
    browser.evaluate("document.querySelector('#artifact').dispatchEvent(new Event('change'))")
    assert browser.error() == "manifest.json does not arrive: the connection to the server is lost"
    set_offline(browser, False)
    browser.press("Try again")
    browser.wait("document.body.dataset.ready && document.querySelector('#error').hidden")


def test_a_report_that_the_command_refuses_is_told(page, command):
    command.answers = [(413, {"error": "the report is larger than 16 MiB"})]
    assert "the command refuses the report: the report is larger than 16 MiB." in verify(page)


def test_a_verdict_against_the_file_is_shown(page, command):
    row = {"runtime": "litert-wasm", "status": "failed", "reason": "worst SQNR 12.0 dB is below 90 dB"}
    command.answers = [(200, {"passed": False, "verdicts": [row]})]
    assert "litert-wasm: failed (worst SQNR 12.0 dB is below 90 dB)" in verify(page)


def test_without_a_command_the_report_can_be_saved(browser, artifact, tmp_path):
    site = Site(write_site(tmp_path / "site", artifact, reports=False))
    try:
        browser.go(site.url())
        assert "The report is ready" in verify(browser)
        saved = browser.evaluate("fetch(document.querySelector('a[download]').href).then((answer) => answer.text())")
        report = parse_device_report(saved.encode())
        assert judge_runs(device_runs(artifact, report)).passed
        assert browser.evaluate("document.querySelector('a[download]').download").endswith(".device-report.json")
    finally:
        site.close()


def test_without_a_secure_context_wasm_still_verifies_and_the_rest_says_why(site, command):
    flags = ("--host-resolver-rules=MAP phone.test 127.0.0.1",)
    with Page(site.url("phone.test"), flags=flags) as page:
        assert page.text("#accelerator-note") == "No WebGPU: WebGPU needs https or localhost."
        page.click("#tab-camera")
        assert "The live camera needs https or localhost; take a photo instead." in page.text("#panel-camera")
        said = verify(page)
    assert "WebGPU needs https or localhost" in said
    assert "Passed" in said
    (report,) = command.reports
    assert [run.accelerator for run in parse_device_report(report).runs] == ["wasm"]


def test_a_browser_without_webgpu_says_so(site):
    with Page(site.url(), gpu=False) as page:
        note = page.text("#accelerator-note")
        assert re.fullmatch(r"No WebGPU: this browser (has no WebGPU|gives pages no GPU)\.", note)
        assert page.evaluate("document.querySelector('[value=webgpu]').disabled")


def test_the_live_camera_is_classified_until_it_is_stopped(site):
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with Page(site.url(), flags=flags) as page:
        page.click("#tab-camera")
        page.press("Start the camera")
        assert classes(page, "camera")
        page.press("Stop")
        page.wait("document.querySelector('#panel-camera video').srcObject === null")
        page.press("Start the camera")
        page.wait("document.querySelector('#panel-camera .classes').checkVisibility()")
        page.click("#tab-photo")  # which ends it too
        page.wait("document.querySelector('#panel-camera video').srcObject === null")
        assert page.complaints == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--deny-permission-prompts", "--use-fake-device-for-media-stream"),
            "The camera is not allowed; allow it in this page's settings, or take a photo instead.",
        ),
        (("--use-fake-ui-for-media-stream",), "This device has no camera; choose a photo instead."),
    ],
    ids=["denied", "none"],
)
def test_no_camera_is_one_line(flags, message, site):
    with Page(site.url(), flags=flags) as page:
        page.click("#tab-camera")
        page.press("Start the camera")
        assert page.error() == message


@pytest.mark.parametrize("scale", [100, 200], ids=["usual text", "large text"])
def test_a_small_screen_shows_everything_without_scrolling_aside(scale, site):
    with Page(site.url(), width=360, height=640) as page:
        page.evaluate(f"document.documentElement.style.fontSize = '{scale}%'")
        page.choose_photo(CHINA)
        classes(page, "photo")
        verify(page)
        for tab in ("photo", "camera", "verify"):
            page.click(f"#tab-{tab}")
            wide = "[...document.querySelectorAll('body *')].filter((each) => each.checkVisibility() && "
            wide += "each.getBoundingClientRect().right > innerWidth + 1).map((each) => each.outerHTML.slice(0, 80))"
            assert page.evaluate(wide) == []


def test_controls_have_names_and_tabs_obey_arrows(page):
    tree = page.command("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "radio", "combobox", "tab", "tabpanel", "image"}
    named = [
        (node["role"]["value"], node["name"]["value"]) for node in tree if node.get("role", {}).get("value") in roles
    ]
    assert len(named) >= 8
    assert [pair for pair in named if not pair[1]] == []
    page.evaluate(
        "document.querySelector('#tab-photo').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft' }))"
    )
    assert page.evaluate("document.activeElement.id") == "tab-verify"
    assert page.evaluate("document.querySelector('#panel-verify').checkVisibility()")


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(scheme):
    style = (REPOSITORY / "web_demo/style.css").read_text()
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", style.split(":root {")[scheme + 1].split("}")[0]))
    pairs = [
        ("text", "page"),
        ("text", "card"),
        ("soft", "page"),
        ("soft", "card"),
        ("soft", "track"),
        ("text", "pill"),
    ]
    pairs += [("on-accent", "accent"), ("accent", "card"), ("good", "card"), ("bad", "card"), ("bad", "bad-page")]
    for front, back in pairs:
        low, high = sorted((luminance(colors[front]), luminance(colors[back])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)
