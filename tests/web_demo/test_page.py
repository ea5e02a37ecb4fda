"""The browser app in a phone-sized browser: its answers, its report, its screens."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn
from browser_page import Command, Page, Site, write_site
from helpers import REPOSITORY
from mobilevit_converters.tflite.runtimes.litert import LiteRTRuntime
from mobilevit_converters.tflite.runtimes.web import LiteRTWebRuntime
from PIL import Image
from tiny_networks import phone_checkpoint, with_tasks

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import find_artifacts
from mobilevit_sdk.data import crop_image
from mobilevit_sdk.parity.device import device_runs, parse_device_report
from mobilevit_sdk.parity.outcome import judge_runs
from mobilevit_sdk.spec import MemoryTask

AVAILABLE = LiteRTWebRuntime().availability()
pytestmark = pytest.mark.skipif(not AVAILABLE, reason=f"litert-web: {AVAILABLE.reason}")

PHOTOS = Path(sklearn.__file__).parent / "datasets" / "images"
CHINA = PHOTOS / "china.jpg"


def test_it_verifies_on_both_accelerators_and_its_report_is_judged(page, command, artifact):
    said = page.verify()
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


def test_the_waiting_command_prints_the_verdict_of_the_phone_and_ends_with_the_gates_code(browser, artifact, tmp_path):
    pytest.importorskip("aiohttp", reason="the extra `phone` is not installed")
    command = [sys.executable, "-c", "from mobilevit_sdk.cli import main; main()", "phone", str(artifact)]
    command += ["--http", "--host", "127.0.0.1", "--out", str(tmp_path / "reports"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        address = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        browser.go(address)
        assert "Passed" in browser.verify()
        verdicts = json.loads(process.stdout.read())["verdicts"]
    assert process.returncode == 0
    assert [(row["runtime"], row["status"]) for row in verdicts] == [
        ("litert-wasm", "passed"),
        ("litert-webgpu", "passed"),
    ]
    assert len(list((tmp_path / "reports").iterdir())) == 1


def test_a_photograph_gets_the_answer_of_the_sdk(page, artifact):
    page.choose_photo(CHINA)
    shares = page.classes("photo")
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


@pytest.mark.slow
def test_a_file_with_tasks_shows_each_task_and_every_output_is_compared(browser, tmp_path):
    pets = MemoryTask(name="pets", num_classes=3, cells=2, labels=("cat", "dog", "fish"))
    result = convert(
        with_tasks(phone_checkpoint("vit"), pets, seed=8), out=tmp_path / "out", formats="tflite", check=False
    )
    artifact = result.artifacts[0].path.parent
    command = Command(artifact)
    site = Site(write_site(tmp_path / "site", artifact), command)
    try:
        browser.go(site.url())
        browser.choose_photo(CHINA)
        browser.wait("document.querySelectorAll('#panel-photo .classes').length === 2")
        browser.wait("document.querySelectorAll('#panel-photo .classes li').length === 6")
        assert re.search(r"logits.*class \d.*pets.*(cat|dog|fish)", browser.text("#panel-photo"), re.DOTALL)
        said = browser.verify()
    finally:
        site.close()
    outcome = judge_runs(device_runs(artifact, parse_device_report(command.reports[0])))
    assert {verdict.status for verdict in outcome.verdicts} == {"passed"}
    for verdict in outcome.verdicts:
        assert list(verdict.outputs) == ["logits", "pets"]
        assert all(f"{name} {each.sqnr_db.worst:.1f} dB" in said for name, each in verdict.outputs.items())


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


def test_the_live_camera_is_classified_until_it_is_stopped(page, artifact):
    page.fake_camera(PHOTOS / "flower.jpg")
    page.click("#tab-camera")
    page.press("Start the camera")
    shares = page.classes("camera")
    labels = find_artifacts(artifact)[0].manifest.spec.labels
    assert set(shares) <= set(labels or [f"class {index}" for index in range(1000)])
    page.press("Stop")
    page.wait("document.querySelector('#panel-camera video').srcObject === null")
    page.press("Start the camera")
    page.wait("document.querySelector('#panel-camera .classes').checkVisibility()")
    page.click("#tab-photo")  # which ends it too
    page.wait("document.querySelector('#panel-camera video').srcObject === null")
    assert page.complaints == []


def test_another_model_may_be_chosen_while_the_camera_runs(browser, artifact, tmp_path):
    other = tmp_path / "other-tflite-fp32"
    shutil.copytree(artifact, other)
    site = Site(write_site(tmp_path / "site", artifact, other))
    try:
        browser.go(site.url())
        browser.fake_camera(PHOTOS / "flower.jpg")
        browser.click("#tab-camera")
        browser.press("Start the camera")
        browser.classes("camera")
        browser.evaluate(
            "(() => { const list = document.querySelector('#artifact'); list.value = 'other-tflite-fp32';"
            "list.dispatchEvent(new Event('change'));"
            "document.querySelector('#panel-camera .classes').replaceChildren(); })()"
        )
        browser.wait("document.body.dataset.ready === 'other-tflite-fp32'")
        assert browser.classes("camera")
        assert browser.evaluate("document.querySelector('#error').hidden")
        browser.press("Stop")
    finally:
        site.close()


@pytest.mark.parametrize("scale", [100, 200], ids=["usual text", "large text"])
def test_a_small_screen_shows_everything_without_scrolling_aside(scale, site):
    with Page(site.url(), width=360, height=640, gpu=scale == 100) as page:
        page.evaluate(f"document.documentElement.style.fontSize = '{scale}%'")
        page.choose_photo(CHINA)
        page.classes("photo")
        page.verify()
        for tab in ("photo", "camera", "verify"):
            page.click(f"#tab-{tab}")
            inside = (
                "[...document.querySelectorAll('.card *')].filter((each) => each.checkVisibility()).filter((each) => "
            )
            inside += "each.getBoundingClientRect().right > each.closest('.card').getBoundingClientRect().right)"
            assert page.evaluate(f"{inside}.map((each) => each.outerHTML.slice(0, 80))") == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            cards = "[...document.querySelectorAll('.card')].filter((each) => each.checkVisibility())"
            margins = page.evaluate(f"{cards}.map((each) => innerWidth - each.getBoundingClientRect().right)")
            assert margins == [16] * len(margins)


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
