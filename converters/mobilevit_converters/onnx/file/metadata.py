"""What a .onnx file says of itself: the spec for this SDK, and the same facts for people and for other tools."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import msgspec

from mobilevit_converters.onnx.file.model import PRODUCER, SPEC_KEY
from mobilevit_sdk.formats.app_input import resizing_of
from mobilevit_sdk.spec import ModelSpec


def describe(model: Any, spec: ModelSpec) -> None:
    """Write the metadata of `spec` into `model`, an `onnx.ModelProto`."""
    what = spec.describe()
    model.producer_name, model.producer_version = PRODUCER, importlib.metadata.version("mobilevit-sdk")
    model.doc_string = f"{spec.model}: {what}"
    del model.metadata_props[:]
    for key, value in _entries(spec).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _entries(spec: ModelSpec) -> dict[str, str]:
    """By the names that people look for; lists are JSON."""
    height, width = spec.preprocessing.image_size
    task = "image-classification" if spec.returns_scores else "image-feature-extraction"
    entries = {
        "model": spec.model,
        "task": "object-detection" if spec.num_queries else task,
        "image": f"float32 [1, 3, {height}, {width}], RGB in [0, 1]; mean, std and channel order are in the graph",
        "resizing": resizing_of(spec.preprocessing).describe(),
        **{output.name: output.meaning for output in spec.outputs},
    }
    labels = {output.labels_name: output.labels for output in spec.outputs if output.labels}
    entries |= {name: msgspec.json.encode(each).decode() for name, each in labels.items()}
    if spec.license:
        entries["license"] = spec.license
    return entries | {SPEC_KEY: msgspec.json.encode(spec).decode()}
