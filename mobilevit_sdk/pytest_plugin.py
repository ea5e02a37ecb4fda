"""A pytest fixture that runs the parity gate in a project's own tests. pytest finds it automatically.

def test_the_phone_model_is_what_was_trained(assert_parity):
    assert_parity("artifacts/mobilevit_xxs-tflite-fp32")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from mobilevit_sdk.artifacts.artifact import ArtifactLike
    from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
    from mobilevit_sdk.parity import Outcome, Verdict
    from mobilevit_sdk.parity.device import DeviceReportLike
    from mobilevit_sdk.parity.drift import Worse


class AssertParity(Protocol):
    """Fail the test unless the artifacts meet their thresholds; otherwise return their verdicts."""

    def __call__(
        self,
        artifact: ArtifactLike,
        *more: ArtifactLike,
        runtime: str | Sequence[str] | None = None,
        device_reports: DeviceReportLike | Sequence[DeviceReportLike] = (),
        images: Path | str | None = None,
        checkpoint: Checkpoint | Path | str | None = None,
        baseline: Path | str | None = None,
    ) -> list[Verdict]:
        """As `mobilevit verify`: `runtime` names the only ones to run; `device_reports` are those of phones; `images`
        replace the stored vectors, with answers of the artifact's checkpoint or of `checkpoint`; `baseline` is an
        earlier verdicts.json. An unavailable runtime fails the test where no other runtime ran the artifact.
        """
        ...


@pytest.fixture(scope="session")
def assert_parity(pytestconfig: pytest.Config) -> AssertParity:
    """The parity gate, with the thresholds of the pyproject.toml in pytest's root folder or above it."""

    def check(
        artifact: ArtifactLike,
        *more: ArtifactLike,
        runtime: str | Sequence[str] | None = None,
        device_reports: DeviceReportLike | Sequence[DeviceReportLike] = (),
        images: Path | str | None = None,
        checkpoint: Checkpoint | Path | str | None = None,
        baseline: Path | str | None = None,
    ) -> list[Verdict]:
        from mobilevit_sdk.errors import MobileViTError
        from mobilevit_sdk.parity import find_config, judge_runs, read_baseline, read_thresholds
        from mobilevit_sdk.parity.device import collect_runs
        from mobilevit_sdk.parity.runs import ReferenceOf

        try:
            thresholds = read_thresholds(find_config(pytestconfig.rootpath))
            earlier = read_baseline(Path(baseline)) if baseline else None
            reference: ReferenceOf | None = None
            if images:
                from mobilevit_sdk.parity.images import reference_for_images

                reference = reference_for_images(Path(images), checkpoint)
            runs = collect_runs([artifact, *more], runtimes=runtime, device_reports=device_reports, reference=reference)
            outcome = judge_runs(runs, thresholds=thresholds, baseline=earlier)
        except MobileViTError as error:
            pytest.fail(f"no parity: {error}", pytrace=False)
        if not outcome.passed:
            pytest.fail(_describe(outcome), pytrace=False)
        return list(outcome.verdicts)

    return check


def _describe(outcome: Outcome) -> str:
    """First the worst that happened, with artifact and number: pytest's own summary shows no more than that line."""
    bad = [*(v for v in outcome.verdicts if v.status != "unavailable"), *outcome.verdicts]
    reasons = [f"{_where(verdict)}: {verdict.reason}" for verdict in bad if verdict.reason]
    lines = []
    for verdict in outcome.verdicts:
        numbers = ""
        if verdict.agreement:
            worst, median = verdict.agreement.sqnr_db.worst, verdict.agreement.sqnr_db.median
            numbers = f" ({verdict.agreement.cases} cases, SQNR {worst:.1f} dB at worst, {median:.1f} dB in the median)"
        lines.append(f"  {verdict.status}: {verdict.artifact} on {verdict.place}{numbers}")
        if verdict.reason:
            lines.append(f"    {verdict.reason}")
    for pair in outcome.pairs:
        if pair.reason:
            reasons.append(f"{' and '.join(place for _, place in pair.both)}: {pair.reason}")
            lines.append(f"  failed: {reasons[-1]}")
    if outcome.drift:
        reasons[:0] = [f"{_where(item)}: {item.message}" for item in outcome.drift.worse]
        lines += [f"  worse: {item.artifact} on {item.place}: {item.message}" for item in outcome.drift.worse]
    return "\n".join([f"no parity: {reasons[0]}", *lines])


def _where(found: Verdict | Worse) -> str:
    return f"{Path(found.artifact).parent.name} on {found.place}"
