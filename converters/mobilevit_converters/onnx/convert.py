"""From a deployed graph to a .onnx file."""

from __future__ import annotations

import ast
import logging
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mobilevit_converters.onnx.file.metadata import describe
from mobilevit_converters.onnx.passes.token_rows import tokens_as_rows
from mobilevit_converters.onnx.quantize.qdq import quantize
from mobilevit_converters.onnx.toolchain import import_from
from mobilevit_sdk.deployment import InHalf, exported
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.spec import ModelSpec

IMAGE = "image"
OPSET = 20  # the first with Gelu; onnxruntime 1.17, of early 2024, and its builds for browsers know it


def convert(
    graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
) -> None:
    """Write `graph` to `path`; see `Converter.convert`.

    The file takes `image`, float32 [1, 3, H, W], and returns `logits`, float32 [1, num_classes], or `features`, or
    both. Its metadata says the rest. Raises ToolchainError.
    """
    import_from("onnx", "onnx")
    import_from("onnxscript", "onnxscript")
    try:
        model = _exported(InHalf(graph) if precision == "fp16" else graph, spec)
        _tidy(model)
        tokens_as_rows(model)
        if quantization is not None:
            quantize(model, precision, quantization)
        describe(model, spec)
        content = model.SerializeToString(deterministic=True)
    except Exception as error:
        raise ToolchainError(f"torch.onnx cannot convert {spec.model}: {type(error).__name__}: {error}") from error
    path.write_bytes(content)


def _exported(graph: nn.Module, spec: ModelSpec) -> Any:
    """An `onnx.ModelProto`."""
    program = exported(graph, spec.preprocessing.image_size)
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it warns that torchvision is missing, which nothing here uses
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its own
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[IMAGE],
                output_names=[output.name for output in spec.outputs],
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    assert written is not None
    return written.model_proto


def _tidy(model: Any) -> None:
    """Drop what the exporter notes of its own work, such as paths of this machine, and name operators by modules."""
    graph = model.graph
    numbers: Counter[str] = Counter()
    for node in graph.node:
        notes = {entry.key: entry.value for entry in node.metadata_props}
        scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "['', '']"))
        name = f"{scopes[-2] if len(scopes) > 1 else ''}/{node.op_type}".removeprefix("network.").removeprefix("/")
        numbers[name] += 1
        node.name = name if numbers[name] == 1 else f"{name}_{numbers[name]}"
        node.doc_string = ""
        del node.metadata_props[:]
    for part in (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
