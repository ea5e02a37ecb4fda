"""A .onnx file's protobuf, read as an untrusted file before any native code sees it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_converters.onnx.toolchain import import_from
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.files import decode_json
from mobilevit_sdk.formats.runtime import output_order, require_image
from mobilevit_sdk.spec import ModelSpec

PRODUCER = "mobilevit-sdk"  # marks a model that has a spec, so that a file cut off before it is noticed
SPEC_KEY = "mobilevit_sdk.spec"
MAX_BYTES = 1 << 30  # of a file; the largest network here has 90 MB
MAX_RANK = 8  # of any tensor; a higher one is damage
STANDARD_DOMAINS = ("", "ai.onnx")

# Bits of an element of a constant, by the type's name in TensorProto.
BITS = {
    "FLOAT": 32,
    "FLOAT16": 16,
    "BFLOAT16": 16,
    "DOUBLE": 64,
    **{f"{sign}INT{bits}": bits for sign in ("", "U") for bits in (4, 8, 16, 32, 64)},
    "BOOL": 8,
}


@dataclass(frozen=True)
class Interface:
    """One float32 [1, 3, H, W], RGB in [0, 1], to float32 [1, num_classes], or [1, C, h, w] of features, or both."""

    file: str
    image: str  # the name of the input
    height: int
    width: int
    outputs: tuple[str, ...]  # their names, in the order of the file's spec

    def to_input(self, pixels: np.ndarray) -> np.ndarray:
        """RGB uint8 [3, H, W] in any memory layout -> what the file takes. Raises RequestError for anything else."""
        require_image(pixels, self.height, self.width, self.file)
        return np.ascontiguousarray(pixels, dtype=np.float32)[None] / np.float32(255)


def read_model(path: Path) -> Any:
    """The `onnx.ModelProto` in a file, all of whose constants are within it and complete.

    Raises ArtifactError for anything but one graph of plain operators: references to other files, functions, graphs
    within operators and training information are refused, since nothing here writes them.
    """
    onnx = import_from("onnx", "onnx")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ArtifactError(f"{path} has {size >> 20} MiB; models of phones have less than {MAX_BYTES >> 20}")
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf's implementations have errors of their own
        raise ArtifactError(f"{path} is truncated, damaged, or not an ONNX model") from error
    if not (model.ir_version and model.opset_import and model.graph.node and model.graph.output):
        raise ArtifactError(f"{path} is not an ONNX model, or it is cut off: it has no graph")
    if refused := next(_refused(onnx, model), None):
        raise ArtifactError(f"{path} {refused}")
    return model


def _refused(onnx: Any, model: Any) -> Iterator[str]:
    """What is wrong with a model, to follow its path in a sentence."""
    graph = model.graph
    if len(model.functions):
        yield "defines functions of its own, which are refused; export it with its operators inlined"
    if len(model.training_info) or len(graph.sparse_initializer):
        yield "holds training information or sparse constants, which are refused"
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g") or len(attribute.graphs):
                yield f"has a graph within an operator ({node.op_type}), which is refused; export without control flow"
    for tensor in _constants(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data):
            yield "keeps weights in another file, which is refused; save it with its weights inside"
        if not _is_whole(onnx, tensor):
            yield f"is damaged: the constant {tensor.name[:80]!r} does not fit its shape"
    for value in (*graph.input, *graph.output, *graph.value_info):
        if len(value.type.tensor_type.shape.dim) > MAX_RANK:
            yield f"is damaged: a value has a rank above {MAX_RANK}"


def _constants(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors


def _is_whole(onnx: Any, tensor: Any) -> bool:
    """Whether a constant has as many elements as its shape says, of a type that tensors here have."""
    if tensor.data_type not in onnx.TensorProto.DataType.values() or len(tensor.dims) > MAX_RANK:
        return False
    bits = BITS.get(onnx.TensorProto.DataType.Name(tensor.data_type))
    if bits is None or any(size < 0 for size in tensor.dims):
        return False
    elements = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data) == -(-elements * bits // 8)
    packed = 8 // bits if bits < 8 else 1
    typed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    return sum(map(len, typed)) == -(-elements // packed)


def read_spec(path: Path, model: Any) -> ModelSpec | None:
    """The ModelSpec in a model's metadata; None for a file of another tool. Raises ArtifactError."""
    text = metadata_of(model).get(SPEC_KEY)
    if text is None:
        if model.producer_name == PRODUCER:
            raise ArtifactError(f"{path} is truncated: the description of its model is missing")
        return None
    try:
        return decode_json(text, ModelSpec)
    except ValueError as error:
        raise ArtifactError(f"{path} carries a malformed model spec: {error}") from error


def metadata_of(model: Any) -> dict[str, str]:
    """The metadata that any ONNX tool shows."""
    return {entry.key: entry.value for entry in model.metadata_props}


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of an input, output or value of a graph; 0 for a size that is not fixed."""
    return tuple(int(dim.dim_value) for dim in value.type.tensor_type.shape.dim)


def read_interface(path: Path, model: Any) -> Interface:
    """The interface of `model`. Raises ArtifactError for a graph with any other."""
    onnx = import_from("onnx", "onnx")
    constants = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in constants]
    ends = [*given, *model.graph.output]
    shapes = [shape_of(value) for value in ends]
    floats = all(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in ends)
    if floats and len(given) == 1 and all(min(shape, default=0) > 0 for shape in shapes):
        match shapes:
            case [(1, 3, height, width), *answers] if all(2 <= len(s) <= 4 and s[0] == 1 for s in answers):
                names = [value.name for value in model.graph.output]
                order = output_order(read_spec(path, model), names, path)
                return Interface(path.name, given[0].name, height, width, tuple(names[i] for i in order))
    raise ArtifactError(f"{path} does not go from one float32 [1, 3, H, W] to one [1, num_classes]: {shapes}")
