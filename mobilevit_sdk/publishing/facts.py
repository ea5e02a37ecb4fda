"""What is known of artifacts: manifests, verdicts, phones' reports. What nobody measured is not in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mobilevit_sdk.artifacts.artifact import Artifact, ArtifactLike, find_artifacts
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import decode_json, read_text
from mobilevit_sdk.parity import Verdict, judge
from mobilevit_sdk.parity.device import DeviceReportLike, collect_runs
from mobilevit_sdk.parity.metrics import WorstMedian
from mobilevit_sdk.parity.runs import place
from mobilevit_sdk.spec import ModelSpec, Origin

VERDICTS = "verdicts.json"
REPORT = "report"  # where the guides let `verify --report` write


class Measured(msgspec.Struct, frozen=True):
    """A verdict of `verify`, as far as a card needs it."""

    artifact: str
    runtime: str
    status: str
    sha256: str | None = None  # of the file that ran; None in reports of before, which show no longer what ran
    device: str | None = None
    runtime_version: str | None = None
    sqnr_db: WorstMedian | None = None
    top1_agreement: float | None = None
    reason: str | None = None

    @property
    def place(self) -> str:
        return place(self.runtime, self.device)


class _Document(msgspec.Struct, frozen=True):
    verdicts: tuple[Measured, ...]


@dataclass(frozen=True)
class Facts:
    """Artifacts of one checkpoint, each with its verdicts and with what phones said beside their answers."""

    artifacts: tuple[Artifact, ...]
    verdicts: tuple[tuple[Measured, ...], ...]
    phones: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]  # artifact, where it ran, names and values
    notes: tuple[str, ...]  # why something that was found is not used

    @property
    def spec(self) -> ModelSpec:
        return self.artifacts[0].manifest.spec

    @property
    def origin(self) -> Origin:
        return self.artifacts[0].manifest.origin

    @property
    def provenance(self) -> dict[str, Any]:
        """What the checkpoint says of its training and its accuracy."""
        return self.spec.provenance


def collect_facts(
    given: ArtifactLike | Sequence[ArtifactLike],
    *,
    verdicts: Path | str | None = None,
    device_reports: DeviceReportLike | Sequence[DeviceReportLike] = (),
) -> Facts:
    """What is known of these artifacts, all of which are unchanged and of one checkpoint.

    `verdicts` is the verdicts.json of a `verify --report`; without, the one in a given folder, or in `report` there, is
    taken. A verdict counts for the file with its SHA-256 alone. Raises ArtifactError where there is no artifact or a
    file is not its manifest's, and RequestError for several checkpoints and for a file that cannot be read.
    """
    artifacts = tuple(find_artifacts(given))
    for artifact in artifacts:
        artifact.require_unchanged()
    checkpoints = {(each.manifest.origin.sha256, each.manifest.spec.model) for each in artifacts}
    if len(checkpoints) > 1:
        models = ", ".join(sorted({model for _, model in checkpoints}))
        raise RequestError(f"these artifacts are of {len(checkpoints)} checkpoints ({models}); give those of one")
    file = Path(verdicts) if verdicts else _verdicts_beside(given)
    rows = _read_verdicts(file) if file else ()
    by_file: dict[str, list[Measured]] = {artifact.manifest.sha256: [] for artifact in artifacts}
    for row in rows:
        if row.sha256 in by_file:
            by_file[row.sha256].append(row)
    names = {artifact.path.parent.name for artifact in artifacts}
    stale = [row for row in rows if row.sha256 not in by_file and Path(row.artifact).parent.name in names]
    notes = [f"{file}: {len(stale)} verdicts are of other files; run `mobilevit verify` again"] if stale else []
    phones: list[tuple[str, str, tuple[tuple[str, str], ...]]] = []
    if device_reports:
        for run in collect_runs(list(artifacts), runtimes="device", device_reports=device_reports):
            if run.device is not None:
                by_file[run.artifact.manifest.sha256].append(_measured(judge(run)))
                phones.append((run.artifact.path.parent.name, run.place, run.facts))
    measured = tuple(tuple(by_file[artifact.manifest.sha256]) for artifact in artifacts)
    return Facts(artifacts, measured, tuple(phones), tuple(notes))


def _measured(verdict: Verdict) -> Measured:
    return msgspec.convert(verdict.to_json(), Measured)


def _verdicts_beside(given: ArtifactLike | Sequence[ArtifactLike]) -> Path | None:
    listed = [given] if isinstance(given, str | Path | Artifact) else list(given)
    folders = [Path(each) for each in listed if isinstance(each, str | Path) and Path(each).is_dir()]
    places = [place for folder in folders for place in (folder / VERDICTS, folder / REPORT / VERDICTS)]
    return next((place for place in places if place.is_file()), None)


def _read_verdicts(file: Path) -> tuple[Measured, ...]:
    try:
        return decode_json(read_text(file), _Document).verdicts
    except FileNotFoundError:
        raise RequestError(f"{file} does not exist; `mobilevit verify --report` writes a {VERDICTS}") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{file} is not a {VERDICTS} of `mobilevit verify --report` ({error})") from error
