"""Device reports as they come in: read without trust, judged, kept on disk, and told apart from those sent twice."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.apps.eligibility import artifact_name
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.errors import MobileViTError, RequestError
from mobilevit_sdk.files import replacing, require_place
from mobilevit_sdk.parity import Outcome, Run, Threshold, judge, judge_runs
from mobilevit_sdk.parity.device import SUFFIX, DeviceReport, collect_runs, device_runs, parse_device_report
from mobilevit_sdk.parity.device.collecting import DEVICE
from mobilevit_sdk.text import one_line

MAX_REPORTS = 200  # that one command takes; each is judged and kept
MAX_REFUSALS_SAID = 10
PAGE, PAGE_ACCELERATORS = "mobilevit-web", ("wasm", "webgpu")  # the browser app, and all that it runs files on


@dataclass(frozen=True)
class Received:
    """A report that was judged, and where it is kept; None where that failed."""

    report: DeviceReport
    path: Path | None


class Inbox:
    """Takes device reports of some artifacts, also from several threads.

    `out` is the folder where they are kept, or one file for one report; nothing that is there is overwritten. `say`
    hears a line about each. Raises RequestError where `out` cannot take the reports, and for a precision without
    thresholds.
    """

    def __init__(
        self,
        artifacts: Sequence[Artifact],
        out: Path,
        thresholds: Mapping[str, Threshold],
        say: Callable[[str], None],
    ) -> None:
        if _is_file(out):
            if out.exists():
                raise RequestError(f"{out} exists; give another `out`")
            if len(artifacts) > 1:
                raise RequestError(
                    f"{out} is one file, and {len(artifacts)} artifacts have a report each; give a folder"
                )
        elif out.exists() and not out.is_dir():
            raise RequestError(f"{out} is neither a folder nor a .json file; give another `out`")
        require_place(out.parent if _is_file(out) else out)
        for artifact in artifacts:
            if artifact.rejected:
                reasons = "; ".join(artifact.reasons)
                say(f"{artifact_name(artifact)} will fail on every phone: it was rejected ({reasons})")
            judge(Run(artifact, DEVICE, None, refusal=("unavailable", "not yet")), thresholds)
        self._artifacts, self._out, self._thresholds, self._say = tuple(artifacts), out, thresholds, say
        self._answers: dict[str, dict[str, object]] = {}  # by digest
        self._refused = 0
        self._lock = threading.Lock()
        self.received: list[Received] = []
        self.failure: MobileViTError | None = None  # why a report could not be kept

    def take(self, content: bytes) -> dict[str, object]:
        """Judge a report, keep it, and return what its sender may know: whether it passed, and the verdicts.

        The same report once more gets the same answer and is not counted. Raises RequestError, in one line, for
        anything else than a whole device report of one of the artifacts, and when there were too many.
        """
        with self._lock:
            try:
                return self._take(content)
            except RequestError as error:
                self._refused += 1
                if self._refused <= MAX_REFUSALS_SAID:
                    self._say(f"a report was refused: {one_line(str(error), 500)}")
                raise

    def missing(self) -> list[Artifact]:
        """The artifacts without a report."""
        reported = {each.report.artifact.sha256 for each in self.received}
        return [artifact for artifact in self._artifacts if artifact.manifest.sha256 not in reported]

    def outcome(self) -> Outcome:
        """All reports judged together; an artifact without one is unavailable."""
        reports = [each.report for each in self.received]
        return judge_runs(
            collect_runs(self._artifacts, runtimes=DEVICE, device_reports=reports), thresholds=self._thresholds
        )

    def _take(self, content: bytes) -> dict[str, object]:
        report = parse_device_report(content)
        if report.digest in self._answers:
            return self._answers[report.digest]
        if len(self.received) >= MAX_REPORTS:
            raise RequestError(f"{MAX_REPORTS} reports came, and no more are taken; start the command again")
        outcome = judge_runs(device_runs(self._artifacts, [report]), thresholds=self._thresholds)
        path = self._keep(report, content)
        self.received.append(Received(report, path))
        verdicts = [verdict.to_json() for verdict in outcome.verdicts]
        answer = self._answers[report.digest] = {"passed": outcome.passed, "verdicts": verdicts}
        words = ", ".join(f"{verdict.runtime} {verdict.status}" for verdict in outcome.verdicts)
        words += _left_out(report)
        kept = f"; kept as {path}" if path else ""
        self._say(one_line(f"{report.device.label}: {report.artifact.name}: {words}{kept}", 1000))
        return answer

    def _keep(self, report: DeviceReport, content: bytes) -> Path | None:
        path = self._free_path(report)
        try:
            with replacing(path) as fresh:
                fresh.write_bytes(content)
        except RequestError as error:  # the phone has done its part: the command ends with this error
            self.failure = self.failure or error
            self._say(str(error))
            return None
        return path

    def _free_path(self, report: DeviceReport) -> Path:
        """Where nothing is yet."""
        folder, stem = self._out, f"{_slug(report.device.model)}-{_slug(report.artifact.name)}"
        if _is_file(self._out):
            if not self._out.exists():
                return self._out
            folder, stem = self._out.parent, self._out.name.removesuffix(".json").removesuffix(SUFFIX[: -len(".json")])
        number = 1
        while (path := folder / f"{stem}{'' if number == 1 else f'-{number}'}{SUFFIX}").exists():
            number += 1
        return path


def _left_out(report: DeviceReport) -> str:
    """In words, what a browser lacked, which is no fault of the file and not in the page's report."""
    if report.app.name != PAGE:
        return ""
    ran = {run.accelerator for run in report.runs}
    missing = [each for each in PAGE_ACCELERATORS if each not in ran]
    return f"; did not run: {', '.join(missing)}" if missing else ""


def _is_file(out: Path) -> bool:
    """Whether it is one .json file, there or not yet, and not a folder of reports."""
    return out.name.endswith(".json") and not out.is_dir()


def _slug(text: str) -> str:
    """Text of another machine as a part of a file's name on any system."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:60] or "phone"
