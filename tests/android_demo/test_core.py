"""What the Android app's core has of the SDK in its own words is what the SDK has."""

from __future__ import annotations

import json
import re
import textwrap

from make_metrics_golden import GOLDEN, metrics_cases

from mobilevit_sdk.demos import demo_folder
from mobilevit_sdk.parity import THRESHOLDS

THRESHOLD = re.compile(r'"([a-z0-9-]+)" to Threshold\(([0-9.]+), ([0-9.]+), countsEdgeCases = (true|false)\)')


def test_the_previews_thresholds_are_those_of_the_gate() -> None:
    source = demo_folder("android_demo") / "core/src/main/kotlin/dev/mobilevit/core/Thresholds.kt"
    found = [
        (precision, float(sqnr), float(top1), counts == "true")
        for precision, sqnr, top1, counts in THRESHOLD.findall(source.read_text())
    ]
    expected = [
        (precision, threshold.sqnr_db, threshold.top1_agreement, threshold.task_agreement is None)
        for precision, threshold in THRESHOLDS.items()
    ]
    assert found == expected


def test_the_golden_metrics_are_what_the_gate_finds() -> None:
    stored, fresh = json.loads(GOLDEN.read_text()), json.loads(json.dumps(metrics_cases()))
    assert len(stored) == len(fresh)
    for before, now in zip(stored, fresh, strict=True):
        for key in ("name", "kind", "shape", "reference", "outputs", "counted", "top1"):
            assert before[key] == now[key], before["name"]
        for key in ("cases", "worst", "median", "max_abs_diff"):
            numbers = [each[key] if isinstance(each[key], list) else [each[key]] for each in (before, now)]
            for old, new in zip(*numbers, strict=True):
                assert abs(old - new) <= 1e-9 * max(1.0, abs(old)), before["name"]


def test_the_code_in_the_readme_is_code_that_its_test_runs() -> None:
    folder = demo_folder("android_demo")
    blocks = re.findall(r"^```kotlin\n(.*?)^```", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    tested = (folder / "core/src/test/kotlin/dev/mobilevit/core/ReadmeTest.kt").read_text()
    assert len(blocks) == 2
    for block in blocks:
        assert textwrap.indent(block, " " * 8) in tested
