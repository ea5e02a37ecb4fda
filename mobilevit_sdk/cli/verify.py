"""`mobilevit verify`: run artifacts and compare them with PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, out, print_json, verb
from mobilevit_sdk.cli.data_options import OpenImages, data_options
from mobilevit_sdk.files import require_place

if TYPE_CHECKING:
    from mobilevit_sdk.parity import Verdict
    from mobilevit_sdk.parity.runs import ReferenceOf


@verb("verify", "Compare phone files with PyTorch and with each other.")
@click.argument("artifacts", metavar="ARTIFACT_OR_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--runtime", "runtimes", multiple=True, metavar="NAME", help="Only this runtime; may be repeated.")
@click.option(
    "--device-report",
    "device_reports",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Judge a phone by its report too; may be repeated. `--runtime device` judges phones alone.",
)
@click.option("--images", type=click.Path(path_type=Path), help="Use these images: a folder or a Parquet file.")
@click.option("--checkpoint", help="The checkpoint for --images and --bisect, if it was moved.")
@click.option("--baseline", type=click.Path(path_type=Path), help="Report what is worse than in this verdicts.json.")
@click.option("--config", type=click.Path(path_type=Path), help="Thresholds; the project's pyproject.toml by default.")
@click.option(
    "--timeout",
    default=600.0,
    metavar="SECONDS",
    help="Stop a runtime that answers no case for this long.",
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
)
@click.option("--bisect", "is_bisected", is_flag=True, help="Name the layer at fault in an artifact that fails.")
@click.option("--report", type=click.Path(path_type=Path), help="Write HTML, JUnit XML, JSON and Markdown here.")
@click.option("--summary", type=click.Path(path_type=Path), help="Append Markdown here, as to $GITHUB_STEP_SUMMARY.")
@data_options(labels=False)
def command(
    artifacts: tuple[Path, ...],
    runtimes: tuple[str, ...],
    device_reports: tuple[Path, ...],
    images: Path | None,
    checkpoint: str | None,
    baseline: Path | None,
    config: Path | None,
    timeout: float,
    is_bisected: bool,
    report: Path | None,
    summary: Path | None,
    open_images: OpenImages,
    as_json: bool,
) -> int:
    """Run artifacts on the runtimes of this machine, and compare their answers with PyTorch's and with each other's.

    A phone is one more runtime: an app runs the artifact's reference vectors there, and its device report is judged by
    the same thresholds.

    Thresholds can be raised in [tool.mobilevit.parity] of the pyproject.toml here or above, and lowered with a stated
    reason. Exit 0: every artifact ran on some runtime, and everything that ran met its thresholds. 1: a threshold was
    missed, or something is worse than in --baseline. 3: a runtime failed, or an artifact could not run at all.
    """
    from mobilevit_sdk.artifacts.artifact import Artifact, find_artifacts
    from mobilevit_sdk.cli.display import Display
    from mobilevit_sdk.cli.verdicts import print_outcome
    from mobilevit_sdk.parity import find_config, judge_runs, read_baseline, read_thresholds
    from mobilevit_sdk.parity.device import collect_runs

    for place in filter(None, (report, summary and summary.parent)):
        require_place(place)
    config = config or find_config(Path.cwd())
    thresholds = read_thresholds(config)
    earlier = read_baseline(baseline) if baseline else None
    found = find_artifacts(artifacts)
    reference: ReferenceOf = Artifact.reference
    if images:
        from mobilevit_sdk.data.cases import MAX_IMAGES
        from mobilevit_sdk.parity.images import reference_for_images

        reference = reference_for_images(open_images(images, limit=MAX_IMAGES), checkpoint)
    with Display(log) as display:
        runs = collect_runs(
            found,
            runtimes=runtimes,
            device_reports=device_reports,
            reference=reference,
            timeout=timeout,
            progress=display,
        )
        outcome = judge_runs(runs, thresholds=thresholds, baseline=earlier)
        if is_bisected and any(verdict.status == "failed" for verdict in outcome.verdicts):
            from mobilevit_sdk.bisection.divergences import find_divergences

            divergences = find_divergences(outcome, checkpoint=checkpoint, thresholds=thresholds, progress=display)
            outcome = dataclasses.replace(outcome, divergences=divergences)
    if report or summary:
        from mobilevit_sdk.parity.report import append_summary, write_report

        if report:
            write_report(outcome, report)
        if summary:
            append_summary(outcome, summary)
    if as_json:
        print_json(outcome.to_json())
    else:
        if config:
            log.print(f"thresholds: {config}", markup=False)
        print_outcome(outcome, out)
        if report:
            out.print(f"report: {report / 'report.html'}", markup=False)
    return 1 if outcome.missed else exit_code(outcome.verdicts)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0: all passed; 1: a threshold was missed; 3: a runtime failed, or an artifact ran on no runtime."""
    from mobilevit_sdk.parity import passed

    if any(verdict.status == "failed" for verdict in verdicts):
        return 1
    return 0 if passed(verdicts) else 3
