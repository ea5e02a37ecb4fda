"""From a training checkpoint of a mobile vision transformer to files that run on phones, with proof."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any

# Resolved on first use: `import mobilevit_sdk` does not import torch.
_PUBLIC = {
    "create_model": "mobilevit_sdk.checkpoints.create",
    "list_models": "mobilevit_sdk.models.registry",
    "load_checkpoint": "mobilevit_sdk.checkpoints.load",
    "save_checkpoint": "mobilevit_sdk.checkpoints.checkpoint",
    "inspect_checkpoint": "mobilevit_sdk.checkpoints.inspection",
    "export_checkpoint": "mobilevit_sdk.checkpoints.export",
    "deploy": "mobilevit_sdk.deployment",
    "convert": "mobilevit_sdk.conversion.pipeline",
    "verify": "mobilevit_sdk.parity",
    "verify_on_phones": "mobilevit_sdk.apps.phone",
    "write_app_project": "mobilevit_sdk.apps.projects",
    "bisect": "mobilevit_sdk.bisection",
    "quantize": "mobilevit_sdk.quantization.search_recipe",
    "synthesize": "mobilevit_sdk.quantization.synthetic_file",
    "sweep": "mobilevit_sdk.training",
    "train": "mobilevit_sdk.training",
    "train_task": "mobilevit_sdk.training",
    "store_labels": "mobilevit_sdk.training",
    "prune": "mobilevit_sdk.pruning",
    "evaluate": "mobilevit_sdk.evaluation.measure",
    "predict": "mobilevit_sdk.evaluation.predict",
    "compare_formats": "mobilevit_sdk.comparison",
    "benchmark": "mobilevit_sdk.bench.benchmark",
    "model_card": "mobilevit_sdk.publishing",
    "push": "mobilevit_sdk.publishing.push",
    "HubModel": "mobilevit_sdk.publishing.hub_model",
    "inspect_artifact": "mobilevit_sdk.artifacts.artifact",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("mobilevit-sdk")
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC, "__version__"]
