"""The folder of one pruning: the pruned checkpoint, which says what it was made from and how, and what goes with it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import ImageDataset, to_model_input
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.accuracy import evaluate
from mobilevit_sdk.files import replacing
from mobilevit_sdk.progress import Report
from mobilevit_sdk.pruning.pruner import Kept, Pruned
from mobilevit_sdk.pruning.request import Request
from mobilevit_sdk.spec import ModelSpec, Strict

CHECKPOINT, REPORT, KEPT, FRONTIER = "pruned.safetensors", "report.json", "kept.png", "frontier.png"
FILES, FINETUNED = "files", "finetuned"


class Size(Strict, frozen=True):
    """A network's size and accuracy; `bytes` are those of its tensors in float32, `top1` a share from 0 to 1."""

    parameters: int
    macs: int
    bytes: int
    top1: float | None = None


def size_of(model: nn.Module, parameters: int, macs: int, top1: float | None) -> Size:
    """`Size` of a network whose parameters and multiply-accumulates are known."""
    elements = sum(tensor.numel() for tensor in model.state_dict().values() if tensor.is_floating_point())
    return Size(parameters=parameters, macs=macs, bytes=4 * elements, top1=top1)


def save_pruned(pruned: Pruned, original: Checkpoint, request: Request, folder: Path) -> Pruned:
    """Write the checkpoint, and return the pruning with its spec, whose provenance names the original and the request.

    Raises RequestError where it cannot be written.
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
    }
    spec = msgspec.structs.replace(pruned.spec, provenance=provenance)
    save_checkpoint(pruned.model, spec, folder / CHECKPOINT)
    return dataclasses.replace(pruned, spec=spec)


def load_pruned(original: Checkpoint, request: Request, folder: Path) -> Pruned | None:
    """What an earlier run of the same pruning has left in the folder; None where there is none.

    Raises RequestError for another pruning's folder, and for that of the checkpoint to prune, if it has this name.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    found = load_checkpoint(path)
    made = found.spec.provenance
    before = made.get("pruned_from", {})
    if made.get("pruning") != msgspec.to_builtins(request) or before.get("sha256") != original.sha256:
        raise RequestError(f"{folder} holds another pruning; give another --out")
    parameters = sum(parameter.numel() for parameter in found.model.parameters())
    return Pruned(
        found.model,
        found.spec,
        parameters=(before["parameters"], parameters),
        macs=(before["macs"], made["macs"]),
        kept=tuple(msgspec.convert(made["kept"], list[Kept])),
    )


def top1_of(model: nn.Module, spec: ModelSpec, dataset: ImageDataset, report: Report) -> float:
    """Top-1 accuracy from 0 to 1."""

    @torch.inference_mode()
    def predict(images: Any) -> Any:
        scores: Tensor = model.eval()(to_model_input(torch.from_numpy(images), spec.preprocessing))
        return scores.numpy()

    accuracy = evaluate(predict, spec, dataset, progress=lambda step: report("evaluating", step.done, len(dataset)))
    return accuracy.top1


def write_report(document: dict[str, Any], folder: Path) -> None:
    """As `mobilevit prune --json` prints it."""
    with replacing(folder / REPORT) as fresh:
        fresh.write_text(json.dumps(document, indent=2) + "\n")
