"""A .tflite file's flatbuffer, read as an untrusted file before any native code sees it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from mobilevit_converters.tflite.file.schema import load_schema
from mobilevit_sdk.errors import ArtifactError

IDENTIFIER = b"TFL3"
MAX_RANK = 8  # of any tensor in TFLite's kernels; a higher one is damage


def read_model(path: Path) -> Any:
    """The root table (`tflite.Model` of the public schema) of a model whose parts all lie within the file.

    Raises ArtifactError for anything but a whole TFLite model with one graph or more.
    """
    schema = load_schema()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
    if content[4:8] != IDENTIFIER:
        found = content[:8].hex(" ") or "nothing"
        raise ArtifactError(f"{path} is not a TFLite model: expected {IDENTIFIER.decode()} at byte 4, found {found}")
    try:
        model = schema.Model.GetRootAs(content, 0)
        whole = model.SubgraphsLength() > 0 and _is_whole(model, len(content))
    except (struct.error, ValueError, IndexError, TypeError, OverflowError):
        whole = False  # an offset beyond the file
    if not whole:
        raise ArtifactError(f"{path} is truncated or damaged: a part of its model lies outside the file")
    return model


def _is_whole(model: Any, size: int) -> bool:
    """Whether every constant, tensor and operator lies within `size` bytes; raises what the reader raises where not.

    The work is bounded: a list is walked only when it can fit into the file.
    """
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())] if 4 * model.SubgraphsLength() < size else []
    lists = [length for graph in graphs for length in (graph.TensorsLength(), graph.OperatorsLength())]
    if not graphs or 4 * (model.BuffersLength() + model.OperatorCodesLength() + sum(lists)) > size:
        return False
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        buffer.DataAsNumpy()  # a view, raises where it does not fit
        if buffer.Offset() + buffer.Size() > size:
            return False
    return all(_is_whole_graph(model, graph) for graph in graphs)


def _is_whole_graph(model: Any, graph: Any) -> bool:
    for i in range(graph.TensorsLength()):
        tensor = graph.Tensors(i)
        if tensor.Buffer() >= model.BuffersLength() or tensor.ShapeLength() > MAX_RANK:
            return False
        tensor.ShapeAsNumpy()
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        operator.InputsAsNumpy()
        operator.OutputsAsNumpy()
        if operator.OpcodeIndex() >= model.OperatorCodesLength():
            return False
    interface = (graph.InputsLength(), graph.OutputsLength())
    return max(interface) <= graph.TensorsLength()
