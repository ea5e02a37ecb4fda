"""JUnit XML, as CI systems read it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from mobilevit_sdk.parity.gate import loosened
from mobilevit_sdk.parity.outcome import Outcome
from mobilevit_sdk.text import one_line

_TAGS = {"failed": "failure", "error": "error", "unavailable": "skipped"}
_COUNTS = {"failed": "failures", "error": "errors", "unavailable": "skipped"}

# A test case: class, name, status, message, and all that is known as JSON.
_Case = tuple[str, str, str, str, object]


def junit(outcome: Outcome) -> str:
    """A test case for each artifact and runtime, and in suites of their own for each pair and for each baseline.

    A missed threshold is a failure, and so is what became worse; what cannot run here is skipped.
    """
    root = ElementTree.Element("testsuites", name="mobilevit verify")
    where = {divergence.artifact: divergence.message for divergence in outcome.divergences}
    verdicts: list[_Case] = [
        (
            f"{verdict.format}.{verdict.runtime}",
            f"{Path(verdict.artifact).parent.name} {verdict.precision}",
            verdict.status,
            "; ".join(filter(None, [verdict.reason, where.get(verdict.artifact)])),
            verdict.to_json(),
        )
        for verdict in outcome.verdicts
    ]
    pairs: list[_Case] = [
        (
            f"{pair.first_runtime}.{pair.second_runtime}",
            f"{Path(pair.first).parent.name} and {Path(pair.second).parent.name}",
            pair.status,
            pair.reason or "",
            pair.to_json(),
        )
        for pair in outcome.pairs
    ]
    drift: list[_Case] = []
    if outcome.drift:
        for verdict in outcome.verdicts:
            worse = [
                item.message
                for item in outcome.drift.worse
                if (item.artifact, item.runtime) == (verdict.artifact, verdict.runtime)
            ]
            name = Path(verdict.artifact).parent.name
            drift.append(
                (f"{verdict.format}.{verdict.runtime}", name, "failed" if worse else "passed", "; ".join(worse), worse)
            )
    totals: Counter[str] = Counter()
    for name, cases in (("parity", verdicts), ("agreement with each other", pairs), ("drift", drift)):
        if cases:
            totals += _add_suite(root, name, cases)
    for attribute in ("tests", *_COUNTS.values()):
        root.set(attribute, str(totals[attribute]))
    reasons = {
        f"{precision} has a lowered threshold": row.reason for precision, row in loosened(outcome.verdicts).items()
    }
    if reasons:
        properties = ElementTree.Element("properties")
        root[0].insert(0, properties)
        for name, reason in reasons.items():
            ElementTree.SubElement(properties, "property", name=name, value=reason or "")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_suite(root: ElementTree.Element, name: str, cases: Iterable[_Case]) -> Counter[str]:
    suite = ElementTree.SubElement(root, "testsuite", name=name)
    counts: Counter[str] = Counter(dict.fromkeys(_COUNTS.values(), 0))
    for class_name, case_name, status, message, known in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=one_line(class_name), name=one_line(case_name))
        counts["tests"] += 1
        if status in _TAGS:
            counts[_COUNTS[status]] += 1
            ElementTree.SubElement(case, _TAGS[status], message=one_line(message, 2000))
        ElementTree.SubElement(case, "system-out").text = json.dumps(known)
    for attribute, count in counts.items():
        suite.set(attribute, str(count))
    return counts
