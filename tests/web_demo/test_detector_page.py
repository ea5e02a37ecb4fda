"""A detector in the browser app: boxes over the picture where the file's own answer says, and both outputs proven."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from browser_page import Command, Site, write_site
from mobilevit_converters.tflite.runtimes.litert import LiteRTRuntime
from mobilevit_converters.tflite.runtimes.web import LiteRTWebRuntime
from PIL import Image
from small_detector import small_detector
from test_page import CHINA, PHOTOS

from mobilevit_sdk import convert
from mobilevit_sdk.data import crop_image
from mobilevit_sdk.parity.device import device_runs, parse_device_report
from mobilevit_sdk.parity.outcome import judge_runs

AVAILABLE = LiteRTWebRuntime().availability()
pytestmark = [
    pytest.mark.skipif(not AVAILABLE, reason=f"litert-web: {AVAILABLE.reason}"),
    pytest.mark.slow,  # half a minute of conversion
]
LEAST_SHARE = 0.7
RECTANGLES = """(() => {
    const whole = document.querySelector("#panel-photo .boxes").getBoundingClientRect();
    const share = ({ left, top, right, bottom }) => [
        (left - whole.left) / whole.width, (top - whole.top) / whole.height,
        (right - whole.left) / whole.width, (bottom - whole.top) / whole.height];
    return [...document.querySelectorAll("#panel-photo .box")].map((box) => share(box.getBoundingClientRect()));
})()"""


def test_boxes_lie_where_the_file_says_and_both_outputs_are_compared(browser, tmp_path):
    (artifact,) = convert(small_detector(), out=tmp_path / "out", formats="tflite", check=False).artifacts
    folder = artifact.path.parent
    spec = artifact.manifest.spec
    with Image.open(CHINA) as image:
        answer = LiteRTRuntime().load(artifact.path)(crop_image(image, spec.preprocessing)).astype(np.float64)
    logits, boxes = np.split(answer.ravel(), [spec.num_queries * (spec.num_classes + 1)])
    shares = torch.from_numpy(logits.reshape(spec.num_queries, -1)).softmax(-1)[:, :-1].amax(-1).numpy()
    kept = np.flatnonzero(shares >= LEAST_SHARE)
    assert len(kept) > 0
    x, y, w, h = boxes.reshape(-1, 4)[kept[np.argsort(-shares[kept], kind="stable")]].T
    expected = np.clip(np.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), axis=1), 0, 1)

    command = Command(folder)
    site = Site(write_site(tmp_path / "site", folder), command)
    try:
        browser.go(site.url())
        assert f"detects {spec.num_classes} classes" in browser.text("#facts")
        browser.choose_photo(CHINA)
        listed = browser.classes("photo")
        drawn = np.array(browser.evaluate(RECTANGLES)[::-1])  # the surest is drawn last
        assert np.abs(drawn - expected).max() < 0.02
        assert set(listed) <= set(spec.labels or ())
        assert max(listed.values()) == pytest.approx(shares.max(), abs=0.01)
        for percent in (95, 5):
            slide = f"const slider = document.querySelector('#panel-photo [type=range]'); slider.value = {percent};"
            browser.evaluate(f"{{ {slide} slider.dispatchEvent(new Event('input')); }}")
            assert len(browser.evaluate(RECTANGLES)) == (shares >= percent / 100).sum()
        browser.fake_camera(PHOTOS / "flower.jpg")
        browser.click("#tab-camera")
        browser.press("Start the camera")
        browser.wait("document.querySelector('#panel-camera .boxes').checkVisibility()")
        browser.press("Stop")
        browser.wait("!document.querySelector('#panel-camera .boxes').checkVisibility()")
        said = browser.verify()
    finally:
        site.close()
    outcome = judge_runs(device_runs(folder, parse_device_report(command.reports[0])))
    assert {verdict.status for verdict in outcome.verdicts} == {"passed"}
    for verdict in outcome.verdicts:
        assert list(verdict.outputs) == ["logits", "boxes"]
        assert all(f"{name} {each.sqnr_db.worst:.1f} dB" in said for name, each in verdict.outputs.items())
        objects = verdict.outputs["logits"].objects
        assert f"{objects} of {objects}" in said
    assert browser.complaints == []
    assert msgspec.json.decode(command.reports[0])["runs"][0]["cases"][0]["outputs"].keys() == {"logits", "boxes"}
