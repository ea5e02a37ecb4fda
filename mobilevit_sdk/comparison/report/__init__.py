"""A comparison as files, for people and for CI: report.html, comparison.md, comparison.json."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mobilevit_sdk.comparison.record import Comparison
from mobilevit_sdk.comparison.report.page import page
from mobilevit_sdk.comparison.report.summary import summary
from mobilevit_sdk.files import replacing

PAGE, SUMMARY, DOCUMENT = "report.html", "comparison.md", "comparison.json"


def write_report(comparison: Comparison, folder: Path) -> None:
    """Write the three files into `folder`. Raises RequestError when they cannot be written."""
    document = msgspec.json.format(msgspec.json.encode(comparison), indent=2).decode()
    contents = {DOCUMENT: f"{document}\n", SUMMARY: summary(comparison), PAGE: page(comparison)}
    for name, text in contents.items():
        with replacing(folder / name) as fresh:
            fresh.write_text(text, encoding="utf-8")


__all__ = ["write_report"]
