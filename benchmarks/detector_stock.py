"""transformers' DETR with the weights of ours, brought to phones as the toolchains' own guides have it."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mobilevit_sdk.bench import BASELINES, Candidate
from mobilevit_sdk.bench.baselines import in_one_row
from mobilevit_sdk.bench.candidates import Question
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.export import release_weights
from mobilevit_sdk.checkpoints.key_maps import all_key_maps
from mobilevit_sdk.checkpoints.load import load_weights
from mobilevit_sdk.processes.child import run_in_child
from mobilevit_sdk.processes.process import peak_memory_bytes
from mobilevit_sdk.spec import ModelSpec


class Transformers(nn.Module):
    """DetrForObjectDetection with timm's ResNet. Shapes: as DETR of this SDK."""

    def __init__(self, model: nn.Module, spec: ModelSpec) -> None:
        from transformers import DetrConfig, DetrForObjectDetection

        backbone = {50: "resnet50", 101: "resnet101"}[50 if spec.config["backbone_depths"][2] == 6 else 101]
        dilated = spec.config["dilated"]
        super().__init__()
        config = DetrConfig(
            **{"num_labels": spec.num_classes, "num_queries": spec.num_queries, "dilation": dilated},
            **{"use_timm_backbone": True, "backbone": backbone, "use_pretrained_backbone": False},
        )
        self.network = DetrForObjectDetection(config).eval()
        (names,) = (each for each in all_key_maps() if each.release == "transformers-5" and each.family == "detr")
        weights = release_weights(model, spec, names)
        lacking = self.network.load_state_dict(weights, strict=False)
        if lacking.missing_keys or any("num_batches_tracked" not in name for name in lacking.unexpected_keys):
            raise SystemExit(f"transformers' DETR has other names: {lacking}")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        answer = self.network(pixel_values=x)
        return answer.logits, answer.pred_boxes


def make(name: str, checkpoint: Checkpoint, folder: Path) -> tuple[Path, float, int]:
    """The file of transformers' network by the stock route `name`, seconds and peak memory in bytes of making it.

    Raises ToolchainError where the route fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights, file = folder / "weights.safetensors", folder / f"transformers{BASELINES[name].suffix}"
    save_checkpoint(checkpoint.model, checkpoint.spec, weights)
    started = time.monotonic()
    peak = run_in_child(_export, name, checkpoint.spec, weights, file)
    return file, round(time.monotonic() - started, 2), peak


def _export(name: str, spec: ModelSpec, weights: Path, file: Path) -> int:
    export = BASELINES[name].export
    assert export is not None
    network = in_one_row(Transformers(load_weights(weights, spec), spec).requires_grad_(False), spec)
    with torch.no_grad():
        export(network, torch.zeros(1, 3, *spec.preprocessing.image_size), file)
    return peak_memory_bytes()


def candidate(name: str, file: Path, checkpoint: Checkpoint, question: Question) -> Candidate:
    """That file, ready to be measured."""
    opened = partial(BASELINES[name].open_session, file, checkpoint.spec)
    return Candidate(checkpoint.source, f"transformers, {name}", question, opened)
