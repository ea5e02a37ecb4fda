"""The YAML at the top of a model card: what the hub filters and shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mobilevit_sdk.checkpoints.hub import PREFIX
from mobilevit_sdk.publishing.facts import Facts
from mobilevit_sdk.text import one_line

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

# The hub's names of licenses that weights of these families have; any other is `other`, with its name.
LICENSES = {"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"}
_TAGS = {"coreml": ("coreml",), "coreai": ("coreai",), "tflite": ("tflite", "litert")}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def front_matter(facts: Facts) -> ModelCardData:
    """The data of the card: a license and an accuracy are there only where the checkpoint states one."""
    from huggingface_hub import EvalResult, ModelCardData

    spec, origin = facts.spec, facts.origin
    formats = sorted({artifact.manifest.format for artifact in facts.artifacts})
    tags = ["mobilevit-sdk", *(tag for name in formats for tag in _TAGS.get(name, (name,))), spec.family]
    extra: dict[str, Any] = {**license_data(spec.license)}
    if origin.source.startswith(PREFIX) and _REPOSITORY.fullmatch(origin.source.removeprefix(PREFIX)):
        extra["base_model"] = origin.source.removeprefix(PREFIX)
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-")[:80] or "images",
            dataset_name=one_line(data),
            metric_type="accuracy",
            metric_name=name,
            metric_value=round(value, 4),
        )
        for data, name, value in stated_accuracy(facts)
        if name == "top-1"
    ]
    if results:
        extra |= {"model_name": one_line(spec.model), "eval_results": results}
    return ModelCardData(
        library_name="mobilevit-sdk",
        pipeline_tag="object-detection" if spec.num_queries else _pipeline(facts),
        tags=list(dict.fromkeys(one_line(tag) for tag in tags)),
        **extra,
    )


def license_data(stated: str | None) -> dict[str, Any]:
    """A license as the hub names it; nothing where none is stated."""
    if not stated:
        return {}
    first = stated.split(" (")[0].lower()
    if first in LICENSES:
        return {"license": first}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", first).strip("-")[:80] or "unnamed"}


def _pipeline(facts: Facts) -> str:
    return "image-classification" if facts.spec.returns_scores else "image-feature-extraction"


def stated_accuracy(facts: Facts) -> list[tuple[str, str, float]]:
    """Data set, metric and share, as the checkpoint's own header states them for the network in PyTorch."""
    stated = facts.provenance
    data = stated.get("test_data")
    rows = [(data, "top-1", stated.get("top1")), (data, "top-5", stated.get("top5")), (data, "AP", stated.get("ap"))]
    return [
        (name, metric, float(value))
        for name, metric, value in rows
        if isinstance(name, str) and isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1
    ]
