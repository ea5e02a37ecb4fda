"""The folder of one pruning: the pruned checkpoint, whose header says what it was made from and how, and the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import msgspec
from torch import nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.pruning.finetune import Finetuned
from mobilevit_sdk.pruning.phone_files import Latencies
from mobilevit_sdk.pruning.pruner import Kept, Pruned
from mobilevit_sdk.pruning.request import Criterion, Request
from mobilevit_sdk.pruning.sweep import SweepPoint
from mobilevit_sdk.spec import Strict

CHECKPOINT, REPORT_FILE, KEPT, FRONTIER = "pruned.safetensors", "report.json", "kept.png", "frontier.png"
FILES, FINETUNED = "files", "finetuned"


class Size(Strict, frozen=True):
    """A network's size and quality; `bytes` are those of its tensors in float32.

    The quality, a share from 0 to 1, is top-1 of a classifier, and average precision of a detector.
    """

    parameters: int
    macs: int
    bytes: int
    top1: float | None = None
    ap: float | None = None

    @property
    def quality(self) -> float | None:
        """Whichever was measured."""
        return self.top1 if self.ap is None else self.ap


class Report(Strict, frozen=True):
    """What `mobilevit prune --json` prints; what was not asked for is None."""

    model: str
    source: str
    request: Request
    before: Size
    after: Size
    test_images: int | None
    kept: list[Kept]
    judged_by: Criterion  # that of the request or, without training images, what did better
    warnings: list[str]
    latency: Latencies | None = None
    frontier: list[SweepPoint] | None = None
    finetuned: Finetuned | None = None


def size_of(model: nn.Module, parameters: int, macs: int, quality: Mapping[str, float]) -> Size:
    """`Size` of a network whose parameters and multiply-accumulates are known, with its `deciding` quality."""
    elements = sum(tensor.numel() for tensor in model.state_dict().values() if tensor.is_floating_point())
    return Size(parameters=parameters, macs=macs, bytes=4 * elements, **quality)


def save_pruned(pruned: Pruned, original: Checkpoint, request: Request, folder: Path) -> Pruned:
    """Write the checkpoint and return the pruning with its new spec: its provenance names the original and the request.

    Raises RequestError when it cannot be written.
    """
    provenance = {
        **pruned.spec.provenance,
        "pruned_from": {
            "source": Path(original.source).name,
            "sha256": original.sha256,
            "parameters": pruned.parameters[0],
            "macs": pruned.macs[0],
        },
        "pruning": msgspec.to_builtins(request),
        "kept": [msgspec.to_builtins(row) for row in pruned.kept],
        "macs": pruned.macs[1],
        "judged_by": pruned.judged_by,
    }
    spec = msgspec.structs.replace(pruned.spec, provenance=provenance)
    save_checkpoint(pruned.model, spec, folder / CHECKPOINT)
    return dataclasses.replace(pruned, spec=spec)


def load_pruned(original: Checkpoint, request: Request, folder: Path) -> Pruned | None:
    """The result of an earlier run of the same pruning in the folder; None where there is none.

    Raises RequestError for the folder of another pruning, and where the checkpoint to prune itself has this name.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    found = load_checkpoint(path)
    made = found.spec.provenance
    before = made.get("pruned_from", {})
    if made.get("pruning") != msgspec.to_builtins(request) or before.get("sha256") != original.sha256:
        raise RequestError(f"{folder} holds another pruning; give another `out`")
    parameters = sum(parameter.numel() for parameter in found.model.parameters())
    return Pruned(
        found.model,
        found.spec,
        parameters=(before["parameters"], parameters),
        macs=(before["macs"], made["macs"]),
        kept=tuple(msgspec.convert(made["kept"], list[Kept])),
        judged_by=made["judged_by"],
    )


def write_report(report: Report, folder: Path) -> None:
    """Write report.json as `mobilevit prune --json` prints it. Raises RequestError when it cannot be written."""
    with replacing(folder / REPORT_FILE) as fresh:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
