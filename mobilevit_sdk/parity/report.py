"""Verdicts to look at and for CI to read: report.html, junit.xml, verdicts.json."""

from __future__ import annotations

import base64
import io
import json
import platform
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from mobilevit_sdk.artifact import Artifact, Case, Reference
from mobilevit_sdk.files import replacing
from mobilevit_sdk.parity.gate import THRESHOLDS, Verdict, passed


def write_report(
    verdicts: Sequence[Verdict],
    artifacts: Sequence[Artifact],
    folder: Path,
    *,
    reference: Callable[[Artifact], Reference] = Artifact.reference,
) -> None:
    """Write the three files into `folder`. Raises RequestError when it cannot be written."""
    contents = {
        "verdicts.json": json.dumps(
            {"passed": passed(verdicts), "verdicts": [v.to_json() for v in verdicts]}, indent=2
        ),
        "junit.xml": _junit(verdicts),
        "report.html": _html(verdicts, artifacts, reference),
    }
    for name, text in contents.items():
        with replacing(folder / name) as fresh:
            fresh.write_text(text, encoding="utf-8")


def _junit(verdicts: Sequence[Verdict]) -> str:
    """One test case a verdict, as CI systems read it: missed thresholds fail, what cannot run here is skipped."""
    suite = ElementTree.Element("testsuite", name="mobilevit verify", tests=str(len(verdicts)))
    tags = {"failed": "failure", "error": "error", "unavailable": "skipped"}
    for status, attribute in (("failed", "failures"), ("error", "errors"), ("unavailable", "skipped")):
        suite.set(attribute, str(sum(verdict.status == status for verdict in verdicts)))
    for verdict in verdicts:
        name = f"{Path(verdict.artifact).name} {verdict.precision}"
        case = ElementTree.SubElement(suite, "testcase", classname=f"{verdict.format}.{verdict.runtime}", name=name)
        if verdict.status in tags:
            ElementTree.SubElement(case, tags[verdict.status], message=verdict.reason or "")
        ElementTree.SubElement(case, "system-out").text = json.dumps(verdict.to_json())
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _html(
    verdicts: Sequence[Verdict], artifacts: Sequence[Artifact], reference: Callable[[Artifact], Reference]
) -> str:
    import jinja2

    by_path = {str(artifact.path): artifact for artifact in artifacts}
    cards = [_card(verdict, by_path[verdict.artifact], reference) for verdict in verdicts]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        cards=cards,
        passed=passed(verdicts),
        counts={
            status: sum(v.status == status for v in verdicts) for status in ("passed", "failed", "error", "unavailable")
        },
        when=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        machine=platform.platform(),
    )


def _card(verdict: Verdict, artifact: Artifact, reference: Callable[[Artifact], Reference]) -> dict[str, Any]:
    """What the template shows of a verdict: every case as a bar, worst first."""
    threshold = THRESHOLDS[verdict.precision]
    bars: list[dict[str, Any]] = []
    line = 0.0
    if verdict.agreement:
        longest = max(*verdict.agreement.case_sqnr_db, threshold.sqnr_db * 1.1)
        bars = [
            {"name": case.name, "picture": _thumbnail(case), "sqnr_db": sqnr, "share": max(0.0, sqnr / longest)}
            for case, sqnr in zip(reference(artifact).cases, verdict.agreement.case_sqnr_db, strict=True)
        ]
        bars.sort(key=lambda bar: float(bar["sqnr_db"]))
        line = threshold.sqnr_db / longest
    return {"verdict": verdict, "manifest": artifact.manifest, "threshold": threshold, "bars": bars, "line": line}


def _thumbnail(case: Case) -> str:
    """The case's image as a data URL, at most 48 pixels wide."""
    image = Image.fromarray(case.image.transpose(1, 2, 0))
    image.thumbnail((48, 48))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
