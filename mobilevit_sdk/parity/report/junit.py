"""JUnit XML, as CI systems read it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from mobilevit_sdk.parity.gate import loosened
from mobilevit_sdk.parity.outcome import Outcome
from mobilevit_sdk.text import one_line

_TAGS = {"failed": "failure", "error": "error", "unavailable": "skipped"}
_COUNTS = {"failed": "failures", "error": "errors", "unavailable": "skipped"}


class _Case(NamedTuple):
    class_name: str
    name: str
    status: str
    message: str
    known: object  # as JSON
    seconds: float = 0.0


def junit(outcome: Outcome) -> str:
    """A test case for each artifact and runtime, and in suites of their own for each pair and for each baseline.

    A missed threshold is a failure, and so is what became worse; what cannot run here is skipped.
    """
    root = ElementTree.Element("testsuites", name="mobilevit verify")
    where = {divergence.artifact: divergence.message for divergence in outcome.divergences}
    verdicts: list[_Case] = [
        _Case(
            f"{verdict.format}.{verdict.runtime}",
            f"{Path(verdict.artifact).parent.name} {verdict.precision}{_of(verdict.device)}",
            verdict.status,
            "; ".join(filter(None, [verdict.reason, None if verdict.device else where.get(verdict.artifact)])),
            verdict.to_json(),
            verdict.seconds,
        )
        for verdict in outcome.verdicts
    ]
    pairs: list[_Case] = [
        _Case(
            f"{pair.first_runtime}.{pair.second_runtime}",
            f"{Path(pair.first).parent.name}{_of(pair.first_device)} and "
            f"{Path(pair.second).parent.name}{_of(pair.second_device)}",
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
                if (item.artifact, item.place) == (verdict.artifact, verdict.place)
            ]
            name = Path(verdict.artifact).parent.name + _of(verdict.device)
            drift.append(
                _Case(
                    f"{verdict.format}.{verdict.runtime}",
                    name,
                    "failed" if worse else "passed",
                    "; ".join(worse),
                    worse,
                )
            )
    totals: Counter[str] = Counter()
    for name, cases in (("parity", verdicts), ("agreement with each other", pairs), ("drift", drift)):
        if cases:
            totals += _add_suite(root, name, cases)
    for attribute in ("tests", *_COUNTS.values()):
        root.set(attribute, str(totals[attribute]))
    root.set("time", f"{sum(case.seconds for case in verdicts):.3f}")
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


def _of(device: str | None) -> str:
    return f" of {device}" if device else ""


def _add_suite(root: ElementTree.Element, name: str, cases: Iterable[_Case]) -> Counter[str]:
    suite = ElementTree.SubElement(root, "testsuite", name=name)
    counts: Counter[str] = Counter(dict.fromkeys(_COUNTS.values(), 0))
    total = 0.0
    for each in cases:
        name, time = one_line(each.name), f"{each.seconds:.3f}"
        case = ElementTree.SubElement(suite, "testcase", classname=one_line(each.class_name), name=name, time=time)
        total += each.seconds
        counts["tests"] += 1
        if each.status in _TAGS:
            counts[_COUNTS[each.status]] += 1
            message = one_line(each.message, 2000)
            found = ElementTree.SubElement(case, _TAGS[each.status], message=message, type=each.status)
            found.text = f"{name} on {one_line(each.class_name)}: {message}"  # what GitLab and Jenkins show
        ElementTree.SubElement(case, "system-out").text = json.dumps(each.known)
    suite.set("time", f"{total:.3f}")
    for attribute, count in counts.items():
        suite.set(attribute, str(count))
    return counts
