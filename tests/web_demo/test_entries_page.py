"""A file of several input sizes in a browser: a picture runs in the entry that it takes, and every entry is proved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from browser_page import Command, Site, write_site
from mobilevit_converters.tflite.runtimes.litert import LiteRTRuntime
from mobilevit_converters.tflite.runtimes.web import LiteRTWebRuntime
from PIL import Image
from test_page import CHINA
from tiny_networks import phone_checkpoint

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data import crop_image
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.parity.device import device_runs, parse_device_report, phone_rows
from mobilevit_sdk.parity.outcome import judge_runs

AVAILABLE = LiteRTWebRuntime().availability()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AVAILABLE, reason=f"litert-web: {AVAILABLE.reason}"),
]
SIZES = ((64, 64), (64, 96), (96, 64))


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Artifact:
    spec, _ = Preparation(image_sizes=SIZES).apply(phone_checkpoint("vit").spec, trained=False)
    return convert(
        random_checkpoint(spec, 8), out=tmp_path_factory.mktemp("out"), formats="tflite", check=False
    ).artifacts[0]


def test_each_picture_runs_in_its_entry_and_every_entry_is_proved(browser, several, tmp_path):
    artifact = several.path.parent
    command = Command(artifact)
    site = Site(write_site(tmp_path / "site", artifact), command)
    try:
        browser.go(site.url())
        assert "64x64, 96x64, 64x96 pixels" in browser.text("#facts").replace("\u00d7", "x")
        for turned, place in ((False, 1), (True, 2)):
            photo = _photo(tmp_path, turned=turned)
            browser.choose_photo(photo)
            browser.wait(
                f"document.querySelector('#panel-photo').innerText.includes('image_{SIZES[place][0]}x{SIZES[place][1]}')"
            )
            shares = browser.classes("photo")
            with Image.open(photo) as image:
                pixels = crop_image(image, several.manifest.spec.entries[place].preprocessing)
            scores = LiteRTRuntime().load(several.path)(pixels).astype(np.float64)
            expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            assert shares
            for label, share in shares.items():
                assert share == pytest.approx(expected[int(label.removeprefix("class "))], abs=0.01)
        said = browser.verify()
    finally:
        site.close()
    assert "Passed" in said
    names = [entry.name for entry in several.manifest.entries]
    runs = device_runs(artifact, parse_device_report(command.reports[0]))
    outcome = judge_runs(runs)
    assert [(verdict.runtime, verdict.status, verdict.reason) for verdict in outcome.verdicts] == [
        ("litert-wasm", "passed", None),
        ("litert-webgpu", "passed", None),
    ]
    assert all(len(run.outputs) == len(several.reference().cases) for run in runs)
    for run in json.loads(command.reports[0])["runs"]:
        assert [entry["name"] for entry in run["latency"]["entries"]] == names
    assert all(f"{name} p50" in said for name in names)
    rows = phone_rows(parse_device_report(command.reports[0]), artifact)
    assert [row.runtime for row in rows] == [
        f"{run} at {name}" for run in ("litert-wasm", "litert-webgpu") for name in names
    ]
    assert all(row.sqnr_db > 90 and row.p50_ms > 0 for row in rows)


def test_litert_web_runs_the_entry_that_an_image_fits(several):
    answer, expected = LiteRTWebRuntime().load(several.path), LiteRTRuntime().load(several.path)
    for height, width in SIZES:
        image = np.random.default_rng(height).integers(0, 256, (3, height, width), dtype=np.uint8)
        np.testing.assert_allclose(answer(image), expected(image), atol=1e-4)
    with pytest.raises(RequestError, match="64x64, 64x96, 96x64"):
        answer(np.zeros((3, 96, 96), np.uint8))


def _photo(folder: Path, *, turned: bool) -> Path:
    path = folder / f"china-{turned}.png"
    with Image.open(CHINA) as image:
        (image.transpose(Image.Transpose.ROTATE_90) if turned else image).save(path)
    return path
