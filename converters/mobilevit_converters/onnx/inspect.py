"""Inspection of a .onnx file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mobilevit_converters.onnx.file.model import (
    SPEC_KEY,
    STANDARD_DOMAINS,
    metadata_of,
    read_model,
    read_spec,
    shape_of,
)
from mobilevit_converters.onnx.toolchain import import_from
from mobilevit_sdk.formats.converter import Inspection, TensorInfo

# As other formats name them.
DTYPES = {"FLOAT": "float32", "FLOAT16": "float16", "DOUBLE": "float64"}


def inspect(path: Path) -> Inspection:
    """Read a file back, from its protobuf alone. Raises ArtifactError for anything but a model of plain operators.

    `delegates` is None: onnxruntime chooses its execution providers on the device.
    """
    model = read_model(path)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    operators = Counter(_operator(node) for node in graph.node)
    ranks = [len(shape_of(value)) for value in (*graph.input, *graph.output, *graph.value_info)]
    return Inspection(
        inputs=tuple(map(_tensor_info, inputs)),
        outputs=tuple(map(_tensor_info, graph.output)),
        operators=dict(sorted(operators.items())),
        max_rank=max(ranks, default=0),
        delegates=None,
        undelegated_ops=None,
        oldest_system=_opset(model),
        metadata={key: value for key, value in metadata_of(model).items() if key != SPEC_KEY} or None,
        spec=read_spec(path, model),
    )


def _operator(node: Any) -> str:
    return str(node.op_type) if node.domain in STANDARD_DOMAINS else f"{node.domain}.{node.op_type}"


def _opset(model: Any) -> str | None:
    """The version of ONNX's own operators that a runtime has to know."""
    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS]
    return f"opset {max(versions)}" if versions else None


def _tensor_info(value: Any) -> TensorInfo:
    onnx = import_from("onnx", "onnx")
    kind = value.type.tensor_type.elem_type
    known = onnx.TensorProto.DataType
    dtype = known.Name(kind) if kind in known.values() else f"type {kind}"
    return TensorInfo(name=value.name, shape=shape_of(value), dtype=DTYPES.get(dtype, dtype.lower()))
