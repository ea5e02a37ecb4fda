"""Device reports as bytes: sealed with a digest, and read back without trust."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mobilevit_sdk.arguments import several
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.parity.device.types import (
    ACCELERATORS,
    DeviceReport,
    DeviceRun,
    EntryLatency,
    Latency,
    Timing,
    nearest_rank,
)
from mobilevit_sdk.text import one_line

DeviceReportLike = DeviceReport | Path | str  # one that was read, or its file

SUFFIX = ".device-report.json"
MAX_BYTES = 16 << 20
_END = re.compile(rb'"digest":"([0-9a-f]{64})"\}\n?\Z')


class _Head(msgspec.Struct):
    """What every schema has."""

    schema: msgspec.Raw = msgspec.Raw()


def read_device_report(path: Path | str) -> DeviceReport:
    """Read the device report in a file. Raises RequestError in one line, also where there is no file."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RequestError(f"cannot read the device report {path}: {error.strerror or error}") from error
    return parse_device_report(content, str(path))


def parse_device_report(content: bytes, name: str = "the device report") -> DeviceReport:
    """Read a device report; `name` stands for it in errors.

    Raises RequestError, in one line, for one that is larger than MAX_BYTES, cut short, edited, of another schema or
    not a device report at all, and for one that contradicts itself.
    """
    try:
        return _parse(content)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{one_line(name)}: {one_line(str(error), 500)}") from error


class OpenedReport(NamedTuple):
    """A report with its name in errors, and the label of its phone, which no other phone here has."""

    report: DeviceReport
    name: str
    device: str


def open_device_reports(reports: DeviceReportLike | Sequence[DeviceReportLike]) -> list[OpenedReport]:
    """Read reports, each once: of two that answer for the same runtimes, the second is `Pixel 8 (Android 15) #2`.

    Raises RequestError as `read_device_report` does.
    """
    opened: list[OpenedReport] = []
    digests: set[str] = set()
    phones: dict[tuple[str, str], list[set[str]]] = {}  # the names of the runs of each phone, by phone file and label
    listed: list[DeviceReportLike] = several(reports)
    for each in listed:
        report = each if isinstance(each, DeviceReport) else read_device_report(each)
        if report.digest in digests:
            continue
        digests.add(report.digest)
        label, runs = report.device.label, set(report.run_names)
        alike = phones.setdefault((report.artifact.sha256, label), [])
        place = next((i for i, others in enumerate(alike) if not runs & others), len(alike))
        if place == len(alike):
            alike.append(set())
        alike[place] |= runs
        name = f"the device report of {label}" if isinstance(each, DeviceReport) else str(each)
        number = f" #{place + 1}" if place else ""
        opened.append(OpenedReport(report, one_line(name), label + number))
    return opened


def seal(report: DeviceReport) -> bytes:
    """The report as the bytes of its file, with its digest, whatever `report.digest` says."""
    unsealed = msgspec.json.encode(msgspec.structs.replace(report, digest=""))
    head = unsealed.removesuffix(b'"}')
    return head + hashlib.sha256(head).hexdigest().encode() + b'"}'


def write_device_report(report: DeviceReport, path: Path) -> None:
    """Write the sealed report. Raises RequestError where it cannot be written."""
    with replacing(path) as fresh:
        fresh.write_bytes(seal(report))


def _parse(content: bytes) -> DeviceReport:
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB, more than any device report needs")
    if not content.lstrip().startswith(b"{"):
        raise ValueError("it is not a device report, which is a JSON object")
    end = _END.search(content)
    schema = b"1"
    try:
        schema = bytes(msgspec.json.decode(content, type=_Head).schema)
    except (ValueError, RecursionError) as error:
        if end:
            raise ValueError(f"it is not JSON ({error}); export it again") from error
    if schema not in (b"", b"1"):
        found = one_line(schema.decode(), 40)
        raise ValueError(f"it has the schema {found}, and this release reads schema 1; update mobilevit-sdk or the app")
    if not end:
        raise ValueError("it does not end with its digest: it was cut short, reformatted, or is not a device report")
    if hashlib.sha256(content[: end.start(1)]).hexdigest().encode() != end[1]:
        raise ValueError("its digest is not that of its content: it was edited or damaged; export it again")
    report = msgspec.json.decode(content, type=DeviceReport)
    json.loads(content, object_pairs_hook=_without_duplicates)  # of two members, msgspec takes the last
    _check(report)
    return report


def _without_duplicates(pairs: list[tuple[str, Any]]) -> None:
    """Raise ValueError for a member that is there twice: readers would disagree about its value."""
    name, times = Counter(name for name, _ in pairs).most_common(1)[0] if pairs else ("", 1)
    if times > 1:
        raise ValueError(f"it has the member {one_line(name, 40)!r} twice in one object")


def _check(report: DeviceReport) -> None:
    """Raise ValueError where the report contradicts itself."""
    seen: set[tuple[object, ...]] = set()
    for index, (run, name) in enumerate(zip(report.runs, report.run_names, strict=True)):
        where = f"runs[{index}] ({name})"
        key = run.runtime, run.accelerator, run.precision
        if key in seen:
            raise ValueError(f"{where} is there twice")
        seen.add(key)
        if run.accelerator not in ACCELERATORS[run.runtime]:
            raise ValueError(f"{where}: {run.runtime} does not run on {run.accelerator}")
        _check_run(run, where)


def _check_run(run: DeviceRun, where: str) -> None:
    if run.error is not None and run.cases:
        raise ValueError(f"{where} has an error and answers; a run has all cases or an error")
    if run.error is None and not run.cases:
        raise ValueError(f"{where} has neither answers nor an error")
    if run.latency is None:
        return
    _check_latency(run.latency, f"{where}: latency")
    entries = run.latency.by_entry
    for index, entry in enumerate(entries):
        _check_latency(entry, f"{where}: latency.entries[{index}]")
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError(f"{where}: latency.entries has an entry twice")
    own = run.latency.inference_ms, run.latency.with_preprocessing_ms
    if entries and (entries[0].inference_ms, entries[0].with_preprocessing_ms) != own:
        raise ValueError(f"{where}: latency is not that of the first of its entries")


def _check_latency(latency: Latency | EntryLatency, where: str) -> None:
    if not latency.inference_ms.samples:
        raise ValueError(f"{where}.inference_ms has no samples; without a measurement, latency is null")
    _check_timing(latency.inference_ms, f"{where}.inference_ms")
    if latency.with_preprocessing_ms:
        _check_timing(latency.with_preprocessing_ms, f"{where}.with_preprocessing_ms")


def _check_timing(timing: Timing, where: str) -> None:
    """Percentiles are samples; single precision on the way to text is no contradiction."""
    for percent, found in ((50, timing.p50), (90, timing.p90)):
        expected = nearest_rank(timing.samples, percent)
        if not math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9):
            raise ValueError(f"{where}: p{percent} is {found:g} ms, and its samples give {expected:g} ms")
