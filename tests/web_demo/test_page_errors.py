"""What the browser app says where something is broken, missing, refused or lost: one line, and the way on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import sklearn
from browser_page import Page, Site, write_site
from mobilevit_converters.tflite.runtimes.web import LiteRTWebRuntime

from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.parity.device import device_runs, parse_device_report
from mobilevit_sdk.parity.outcome import judge_runs

AVAILABLE = LiteRTWebRuntime().availability()
pytestmark = pytest.mark.skipif(not AVAILABLE, reason=f"litert-web: {AVAILABLE.reason}")

GPU = False  # of the browser: what follows says nothing of WebGPU, which software computes slowly
PHOTOS = Path(sklearn.__file__).parent / "datasets" / "images"
CHINA = PHOTOS / "china.jpg"


def test_a_file_that_is_no_picture_is_told(page, tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    page.choose_photo(tmp_path / "notes.jpg")
    assert page.error() == "notes.jpg is not a picture that this browser reads"
    page.choose_photo(CHINA)  # and the next one is welcome
    assert page.classes("photo")


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
    "another schema": (lambda files: change(files.manifest, schema=3), "schema is missing or wrong"),
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
        assert "the command refuses the report: the device report of computer" in browser.verify()
        browser.evaluate(
            f"(() => {{ const list = document.querySelector('#artifact'); list.value = {json.dumps(artifact.name)};"
            "list.dispatchEvent(new Event('change')); })()"
        )
        browser.wait(f"document.body.dataset.ready === {json.dumps(artifact.name)}")
        assert "Passed" in browser.verify()
    finally:
        site.close()


def test_wasm_computes_with_one_thread_where_threads_fail(browser, site, folder):
    (folder / "litert/wasm/litert_wasm_threaded_internal.wasm").unlink()
    browser.go(site.url())
    said = browser.verify()
    assert "Passed" in said
    assert "LiteRT.js 2.5.3, threads" not in said


def test_without_a_command_the_report_can_be_saved(browser, artifact, tmp_path):
    site = Site(write_site(tmp_path / "site", artifact, reports=False))
    try:
        browser.go(site.url())
        assert "The report is ready" in browser.verify()
        saved = browser.evaluate("fetch(document.querySelector('a[download]').href).then((answer) => answer.text())")
        report = parse_device_report(saved.encode())
        assert judge_runs(device_runs(artifact, report)).passed
        assert browser.evaluate("document.querySelector('a[download]').download").endswith(".device-report.json")
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
    page.verify()
    set_offline(page, True)
    try:
        assert "the connection to the command is lost. It is kept here." in page.verify()
    finally:
        set_offline(page, False)
    page.wait("/Passed/.test(document.querySelector('#panel-verify').innerText)")
    assert len(command.reports) == 2


def test_a_command_that_is_busy_may_be_asked_again(page, command):
    command.answers = [(503, {"error": "another phone is being judged"})]
    assert "does not take the report: another phone is being judged. It is kept here." in page.verify()
    page.press("Send again")
    page.wait("/Passed/.test(document.querySelector('#panel-verify').innerText)")
    assert len(command.reports) == 1


def test_a_report_that_did_not_arrive_goes_along_with_that_of_the_next_model(browser, artifact, command, tmp_path):
    second = shutil.copytree(artifact, tmp_path / "second")
    site = Site(write_site(tmp_path / "site", artifact, second), command)
    browser.go(site.url())
    command.answers = [(503, {"error": "another phone is being judged"})]
    assert "It is kept here." in browser.verify()
    browser.evaluate("""(() => {
        const models = document.querySelector("#artifact");
        models.value = "second";
        models.dispatchEvent(new Event("change"));
    })()""")
    browser.wait("document.body.dataset.ready === 'second'")
    assert "Passed" in browser.verify()
    site.close()
    names = [parse_device_report(report).artifact.name for report in command.reports]
    assert names == [artifact.name, "second"]


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
    assert "the command refuses the report: the report is larger than 16 MiB." in page.verify()


def test_a_verdict_against_the_file_is_shown(page, command):
    row = {"runtime": "litert-wasm", "status": "failed", "reason": "worst SQNR 12.0 dB is below 90 dB"}
    command.answers = [(200, {"passed": False, "verdicts": [row]})]
    assert "litert-wasm: failed (worst SQNR 12.0 dB is below 90 dB)" in page.verify()


def test_without_a_secure_context_wasm_still_verifies_and_the_rest_says_why(site, command):
    flags = ("--host-resolver-rules=MAP phone.test 127.0.0.1",)
    with Page(site.url("phone.test"), flags=flags) as page:
        assert page.text("#accelerator-note") == "No WebGPU: WebGPU needs https or localhost."
        page.click("#tab-camera")
        assert "The live camera needs https or localhost; take a photo instead." in page.text("#panel-camera")
        said = page.verify()
    assert "WebGPU needs https or localhost" in said
    assert "Passed" in said
    (report,) = command.reports
    assert [run.accelerator for run in parse_device_report(report).runs] == ["wasm"]


def test_a_browser_without_webgpu_says_so(site):
    with Page(site.url(), gpu=False) as page:
        note = page.text("#accelerator-note")
        assert re.fullmatch(r"No WebGPU: this browser (has no WebGPU|gives pages no GPU)\.", note)
        assert page.evaluate("document.querySelector('[value=webgpu]').disabled")


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("NotAllowedError", "The camera is not allowed; allow it in this page's settings, or take a photo instead."),
        ("NotFoundError", "This device has no camera; choose a photo instead."),
        ("NotReadableError", "Another app is using the camera; close it and try again."),
        ("AbortError", "The camera fails: no"),
    ],
)
def test_no_camera_is_one_line(reason, message, page):
    page.refuse_camera(reason)
    page.click("#tab-camera")
    page.press("Start the camera")
    assert page.error() == message
