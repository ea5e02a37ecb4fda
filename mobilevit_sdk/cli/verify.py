"""`mobilevit verify`: the gate."""

from __future__ import annotations

from pathlib import Path

import click

from mobilevit_sdk.cli.common import log, out, print_json, verb


@verb("verify")
@click.argument("artifacts", metavar="ARTEFACT_OR_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--runtime", "runtimes", multiple=True, metavar="NAME", help="Only this runtime; may be given again.")
@click.option("--images", type=click.Path(path_type=Path), help="Check on these images: a folder or a Parquet file.")
@click.option("--checkpoint", help="Where --images finds PyTorch's answers, if not where the artefact came from.")
@click.option("--report", type=click.Path(path_type=Path), help="Write report.html, junit.xml and verdicts.json here.")
def command(
    artifacts: tuple[Path, ...],
    runtimes: tuple[str, ...],
    images: Path | None,
    checkpoint: str | None,
    report: Path | None,
    as_json: bool,
) -> int:
    """Run artefacts on the runtimes of this machine and hold their answers to PyTorch's.

    Exit 0: every artefact ran somewhere, and everything that ran met its thresholds. 1: a threshold was missed.
    3: a runtime failed, or an artefact could not run anywhere.
    """
    from mobilevit_sdk.artifact import Artifact, find_artifacts
    from mobilevit_sdk.cli.verdicts import print_verdicts
    from mobilevit_sdk.parity import VerifyProgress, verify
    from mobilevit_sdk.parity.images import reference_for_images
    from mobilevit_sdk.parity.report import write_report

    found = find_artifacts(artifacts)
    reference = reference_for_images(images, checkpoint) if images else Artifact.reference
    with log.status("verifying") as status:

        def show(progress: VerifyProgress) -> None:
            status.update(f"{progress.artifact.name} on {progress.runtime}: {progress.done} of {progress.total} cases")

        verdicts = verify(found, runtimes=runtimes, reference=reference, on_progress=show)
    code = exit_code(verdicts)
    if report:
        write_report(verdicts, found, report, reference=reference)
    if as_json:
        print_json({"passed": code == 0, "verdicts": [verdict.to_json() for verdict in verdicts]})
    else:
        print_verdicts(verdicts, out)
        if report:
            out.print(f"report: {report / 'report.html'}")
    return code


def exit_code(verdicts: list) -> int:
    """0: all passed; 1: a threshold was missed; 3: a runtime failed, or an artefact ran nowhere."""
    from mobilevit_sdk.parity import passed

    if any(verdict.status == "failed" for verdict in verdicts):
        return 1
    return 0 if passed(verdicts) else 3
