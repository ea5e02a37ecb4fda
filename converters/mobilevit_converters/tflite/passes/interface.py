"""The interface of a .tflite file: one image in, scores or features out, or both."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_converters.tflite.file.associated_files import read_spec
from mobilevit_converters.tflite.file.entries import GraphEntry, entries_of
from mobilevit_converters.tflite.file.schema import tensor_types
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import Size, output_order, require_image


@dataclass(frozen=True)
class Interface:
    """One float32 [1, H, W, 3], RGB in [0, 1], to float32 [1, num_classes], or [1, C, h, w] of features, or both."""

    file: str
    height: int
    width: int
    outputs: dict[str, int] = field(default_factory=dict)  # how many values each has, in the order of the file's spec

    @property
    def values(self) -> int:
        """Of all outputs together."""
        return sum(self.outputs.values())

    def to_input(self, pixels: np.ndarray) -> np.ndarray:
        """RGB uint8 [3, H, W] in any memory layout -> what the file takes. Raises RequestError for anything else."""
        require_image(pixels, self.height, self.width, self.file)
        channels_last = np.ascontiguousarray(pixels.transpose(1, 2, 0), dtype=np.float32)  # [3, H, W] -> [H, W, 3]
        return channels_last[None] / np.float32(255)


def read_interfaces(path: Path, model: Any) -> dict[Size, tuple[GraphEntry, Interface]]:
    """The graphs of `model`, the root table of the file, by image size, and the interface of each.

    Raises ArtifactError as `read_interface` does.
    """
    entries = entries_of(path, model, read_spec(path, required=False))
    return {size: (entry, read_interface(path, model, entry.graph)) for size, entry in entries.items()}


def read_interface(path: Path, model: Any, graph_index: int = 0) -> Interface:
    """The interface of a graph of `model`, the root table of the file. Raises ArtifactError for any other.

    For runtimes that silently take other data: buffers, pipes.
    """
    graph = model.Subgraphs(graph_index)
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    try:
        ends = [[tensors[i] for i in end] for end in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())]
        shapes = [tuple(int(n) for n in tensor.ShapeAsNumpy()) for end in ends for tensor in end]
        is_float = all(tensor_types().get(tensor.Type()) == "FLOAT32" for end in ends for tensor in end)
        names = [tensor.Name().decode() for tensor in ends[1]]
    except (IndexError, TypeError, AttributeError, ValueError) as error:  # a tensor that is missing, or none at all
        raise ArtifactError(f"{path} is damaged: its interface cannot be read") from error
    match shapes:
        case [(1, height, width, 3), *answers] if (
            is_float and len(ends[0]) == 1 and answers and all(2 <= len(s) <= 4 and s[0] == 1 for s in answers)
        ):
            order = output_order(read_spec(path, required=False), names, path)
            return Interface(path.name, height, width, {names[i]: math.prod(answers[i]) for i in order})
    raise ArtifactError(f"{path} does not go from one float32 [1, H, W, 3] to one [1, num_classes]: {shapes}")
