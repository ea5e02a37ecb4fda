"""An outcome as files, for people and for CI: report.html, junit.xml, verdicts.json, summary.md."""

from __future__ import annotations

import json
from pathlib import Path

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.parity.outcome import Outcome
from mobilevit_sdk.parity.report.junit import junit
from mobilevit_sdk.parity.report.page import page
from mobilevit_sdk.parity.report.summary import summary


def write_report(outcome: Outcome, folder: Path) -> None:
    """Write the four files into `folder`. Raises RequestError when they cannot be written."""
    contents = {
        "verdicts.json": json.dumps(outcome.to_json(), indent=2) + "\n",
        "junit.xml": junit(outcome),
        "summary.md": summary(outcome),
        "report.html": page(outcome),
    }
    for name, text in contents.items():
        with replacing(folder / name) as fresh:
            fresh.write_text(text, encoding="utf-8")


def append_summary(outcome: Outcome, file: Path) -> None:
    """Append the Markdown summary to `file`. Raises RequestError when it cannot be written."""
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(summary(outcome))
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror or error}") from error


__all__ = ["append_summary", "write_report"]
