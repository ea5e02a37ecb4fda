"""What the SDK and its Swift app both know, held together; `tests/android_demo` does it for Kotlin."""

from __future__ import annotations

import re

from mobilevit_sdk.demos import demo_folder
from mobilevit_sdk.formats.quantization import QUANTIZED
from mobilevit_sdk.parity import THRESHOLDS

FILE = "MobileViTDemo.swiftpm/MobileViTKit/Sources/MobileViTKit/Proof/Thresholds.swift"
ENTRY = r'"([\w-]+)": Threshold\(sqnrDB: ([\d.]+), top1Agreement: ([\d.]+), countsEdgeCases: (true|false)\)'


def test_the_swift_app_previews_verdicts_with_the_sdks_thresholds():
    found = {
        name: (float(sqnr), float(top1), edges == "true")
        for name, sqnr, top1, edges in re.findall(ENTRY, (demo_folder("ios_demo") / FILE).read_text())
    }
    assert found == {
        name: (threshold.sqnr_db, threshold.top1_agreement, name not in QUANTIZED)
        for name, threshold in THRESHOLDS.items()
    }
