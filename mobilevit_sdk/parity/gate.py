"""Verdicts: each artifact on each runtime, judged by the thresholds of its precision."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from mobilevit_sdk.artifacts.artifact import ArtifactLike
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.parity.device import DeviceReportLike, collect_runs
from mobilevit_sdk.parity.judge import judge_view
from mobilevit_sdk.parity.metrics import Agreement
from mobilevit_sdk.parity.runs import TIMEOUT_SECONDS, ReferenceOf, Run, place
from mobilevit_sdk.parity.thresholds import THRESHOLDS, Threshold
from mobilevit_sdk.parity.views import View, by_output, views_of, worst_output
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.text import of_all, one_line, percent

MIN_PIXELS = 0.05  # by which a box may always be off


class Verdict(Strict, frozen=True, kw_only=True):
    """The verdict on one artifact on one runtime. Without an agreement, `reason` says why there is none."""

    artifact: str
    format: str
    precision: str
    runtime: str
    status: Literal["passed", "failed", "unavailable", "error"]
    agreement: Agreement | None = None  # of the worst output
    outputs: dict[str, Agreement] | msgspec.UnsetType = msgspec.UNSET  # of each, where there are several
    reason: str | None = None
    thresholds: Threshold  # that the agreement had to reach
    runtime_version: str | None
    bytes: int  # of the file
    delegates: int | None
    undelegated_ops: dict[str, int] | None
    sha256: str | None = None  # of the file that was judged
    cases_sha256: str | None = None  # of the images, in order
    seconds: float = 0.0  # to load the artifact and answer all cases
    device: str | None = None  # the phone that ran it, such as "Pixel 8 (Android 15)"; None: this machine

    @property
    def place(self) -> str:
        """Where it ran, in words: the runtime, and the phone."""
        return place(self.runtime, self.device)

    def to_json(self) -> dict[str, object]:
        """The flat form of the command line's contract."""
        row: dict[str, object] = msgspec.to_builtins(self)
        always = Agreement.__struct_fields__[: -len(Agreement.__struct_defaults__)]  # the others are of boxes
        agreement = row.pop("agreement") or dict.fromkeys(always)
        outputs = row.get("outputs", {})
        assert isinstance(agreement, dict)
        assert isinstance(outputs, dict)
        for each in (agreement, *outputs.values()):
            del each["case_sqnr_db"]
        return {**row, **agreement, "reason": row["reason"]}

    @property
    def worst_output(self) -> str | None:
        """The name of the output that `agreement` is of, where there are several."""
        return next((name for name, each in (self.outputs or {}).items() if each == self.agreement), None)

    def by_output(self) -> str | None:
        """In words, the worst SQNR of each output where there are several."""
        if not self.outputs:
            return None
        return ", ".join(f"{name} {_in_words(agreement)}" for name, agreement in self.outputs.items())


def _in_words(agreement: Agreement) -> str:
    """The worst SQNR; of boxes also how far they are off, and how much those of objects overlap."""
    words = f"{agreement.sqnr_db.worst:.1f} dB"
    if agreement.max_pixels is not msgspec.UNSET:
        words += f" and {agreement.max_pixels:.2g} pixels"
        words += f", IoU {agreement.worst_iou:.4f} of {agreement.objects} objects" if agreement.worst_iou else ""
    return words


def verify(
    artifacts: ArtifactLike | Sequence[ArtifactLike],
    *,
    runtimes: str | Sequence[str] | None = None,
    device_reports: DeviceReportLike | Sequence[DeviceReportLike] = (),
    reference: ReferenceOf | None = None,
    thresholds: Mapping[str, Threshold] | None = None,
    timeout: float = TIMEOUT_SECONDS,
    progress: Progress = silent,
) -> list[Verdict]:
    """Run artifacts and compare their answers with PyTorch's: a verdict for each artifact on each of its runtimes.

    `artifacts` is one or several files, folders, or folders of artifacts; `runtimes`, one name or several, limits which
    run. `device_reports`, one or several, adds the phones that wrote them; the runtime "device" runs nothing else.
    `reference` gives cases and answers, by default the vectors stored beside the file; `thresholds` holds what
    each precision must reach, by default `parity.THRESHOLDS`. A runtime that answers no case for `timeout` seconds is
    stopped, which is an error. Raises ArtifactError where there is no artifact, and RequestError for an unknown runtime
    or precision.
    """
    runs = collect_runs(
        artifacts,
        runtimes=runtimes,
        device_reports=device_reports,
        reference=reference,
        timeout=timeout,
        progress=progress,
    )
    return [judge(run, thresholds or THRESHOLDS) for run in runs]


def judge(run: Run, thresholds: Mapping[str, Threshold] = THRESHOLDS) -> Verdict:
    """Judge the answers of a run by the threshold of its precision. Raises RequestError where there is none."""
    manifest = run.artifact.manifest
    threshold = thresholds.get(manifest.precision)
    if threshold is None:
        raise RequestError(
            f"no thresholds for precision {manifest.precision!r}; {suggest(manifest.precision, thresholds)}"
        )
    verdict = Verdict(
        artifact=str(run.artifact.path),
        format=manifest.format,
        precision=manifest.precision,
        runtime=run.runtime,
        status="passed",
        thresholds=threshold,
        runtime_version=run.version,
        bytes=manifest.bytes,
        sha256=manifest.sha256,
        delegates=manifest.delegates,
        undelegated_ops=manifest.undelegated_ops,
        seconds=run.seconds,
        device=run.device,
    )
    if run.refusal:
        status, reason = run.refusal
        return msgspec.structs.replace(verdict, status=status, reason=one_line(reason, 2000))
    assert run.reference is not None
    assert run.outputs is not None
    counted = counts(run.reference.cases, threshold)
    views = views_of(manifest.spec, run.reference, run.outputs)
    agreements = {view.output.name: view.compare(counted) for view in views}
    missed = {view.output.name: _misses(view, agreements[view.output.name], run, threshold, counted) for view in views}
    misses = by_output(missed)
    if run.artifact.rejected and not _is_of_the_task(run, threshold):
        misses = [*(f"it was rejected when it was converted: {reason}" for reason in run.artifact.reasons), *misses]
    return msgspec.structs.replace(
        verdict,
        status="failed" if misses else "passed",
        reason="; ".join([*misses, *filter(None, [run.advice])]) if misses else None,
        agreement=agreements[worst_output(agreements, missed)],
        outputs=agreements if len(agreements) > 1 else msgspec.UNSET,
        cases_sha256=_hash_of_cases(run.reference),
    )


def passed(verdicts: Sequence[Verdict]) -> bool:
    """Whether every artifact ran somewhere, and everything that ran met its thresholds."""
    ran = {verdict.artifact for verdict in verdicts if verdict.status == "passed"}
    bad = any(verdict.status in ("failed", "error") for verdict in verdicts)
    return bool(verdicts) and not bad and ran == {verdict.artifact for verdict in verdicts}


def loosened(verdicts: Sequence[Verdict]) -> dict[str, Threshold]:
    """By precision, the thresholds of these verdicts that the project lowered, which takes a stated reason."""
    used = {verdict.precision: verdict.thresholds for verdict in verdicts}
    return {precision: threshold for precision, threshold in used.items() if threshold.reason}


def counts(cases: Sequence[Case], threshold: Threshold) -> np.ndarray:
    """Which cases a verdict reads, bool [cases]: for integer precisions no edge case, unless there is nothing else.

    What noise and checkerboards do to ranges that were found on images says nothing about the images of an app.
    """
    ordinary = np.array([case.role != "edge" for case in cases])
    everything = threshold.task_agreement is None or not ordinary.any()
    return np.ones(len(cases), bool) if everything else ordinary


def _is_of_the_task(run: Run, threshold: Threshold) -> bool:
    """Whether integers were asked about images of their task; random weights and features alone have none."""
    assert run.reference is not None
    manifest = run.artifact.manifest
    if threshold.task_agreement is None or manifest.origin.random_weights_seed is not None:
        return False
    if not manifest.spec.returns_scores and not manifest.spec.num_queries:
        return False
    return all(case.role == "image" for case in run.reference.cases)


def _misses(view: View, agreement: Agreement, run: Run, threshold: Threshold, counted: np.ndarray) -> list[str]:
    """What one output misses."""
    assert run.reference is not None
    expected, actual = view.flat
    misses = [] if np.isfinite(actual).all() else ["scores are not finite"]
    if _is_constant(actual) and not _is_constant(expected):
        misses.append("it answers every image with the same scores")
    if agreement.max_pixels and agreement.max_pixels > (allowed := _allowed_pixels(run, threshold)):
        misses.append(f"a box is off by {agreement.max_pixels:.3g} pixels, more than {allowed:.3g}")
    if _is_of_the_task(run, threshold):
        return [*misses, *judge_view(view, threshold, runtime=run.runtime).reasons]
    if agreement.sqnr_db.worst < threshold.sqnr_db:
        worst = run.reference.cases[int(np.argmin(np.where(counted, agreement.case_sqnr_db, np.inf)))].name
        misses.append(f"SQNR {agreement.sqnr_db.worst:.1f} dB on {worst!r} is below {threshold.sqnr_db:g} dB")
    same = agreement.top1_agreement
    if same is not None and same < threshold.top1_agreement:
        what = "sign" if expected.shape[1] == 1 else "best class"
        found = of_all(same, agreement.cases, "cases")
        misses.append(f"the same {what} on {found} is below {percent(threshold.top1_agreement)}")
    return misses


def _allowed_pixels(run: Run, threshold: Threshold) -> float:
    """How far off a box may be: what the SQNR allows for the longer side of the picture, and MIN_PIXELS anywhere.

    In float16 that is 6.4 pixels at 640. A detector trained on drawn shapes (AP50 0.97) needs 4.3 of them in XNNPACK
    and 1.4 in Core ML on photographs, which it knows nothing of; in the median image it is off by 1.0 and 0.4.
    """
    return max(MIN_PIXELS, 10 ** (-threshold.sqnr_db / 20) * max(map(max, run.artifact.manifest.spec.sizes)))


def _is_constant(scores: np.ndarray) -> bool:
    """Whether they are the same in every case."""
    return bool((scores == scores[0]).all())


def _hash_of_cases(reference: Reference) -> str:
    digest = hashlib.sha256()
    for case in reference.cases:
        digest.update(f"{case.image.shape} {case.contiguous}".encode())
        digest.update(case.image.tobytes())
    return digest.hexdigest()
