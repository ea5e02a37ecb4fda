"""From a deployed graph to a .pte file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from torch import nn

from converters.executorch.program import LABELS, SPEC
from converters.executorch.toolchain import import_module
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.spec import ModelSpec


def convert(graph: nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write `graph` to `path`; see `mobilevit_sdk.converter.Converter.convert`.

    The method `forward` takes float32 [1, 3, H, W] and answers the logits, float32 [1, num_classes]. Two more methods
    answer strings, so that an app reads them with the runtime it has: `labels`, one a line, and `model_spec`, JSON.
    Raises ToolchainError.
    """
    exir = import_module("executorch.exir")
    xnnpack = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    height, width = spec.preprocessing.image_size
    strings = {SPEC: msgspec.json.encode(spec).decode()}
    if spec.labels is not None:
        strings[LABELS] = "\n".join(" ".join(label.split()) for label in spec.labels)
    try:
        exported = torch.export.export(graph.eval(), (torch.zeros(1, 3, height, width),))
        edge = exir.to_edge_transform_and_lower(
            exported, partitioner=[xnnpack.XnnpackPartitioner()], constant_methods=strings
        )
        program = edge.to_executorch().buffer
    except Exception as error:
        raise ToolchainError(f"ExecuTorch cannot convert {spec.model}: {type(error).__name__}: {error}") from error
    path.write_bytes(program)
