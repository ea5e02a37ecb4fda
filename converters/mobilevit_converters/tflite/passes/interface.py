"""The interface of a .tflite file: one image in, one row of scores out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_converters.tflite.file.schema import tensor_types
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import require_image


@dataclass(frozen=True)
class Interface:
    """One float32 [1, H, W, 3], RGB in [0, 1], to one float32 [1, num_classes], or [1, C, h, w] of features."""

    file: str
    height: int
    width: int
    classes: int  # or features

    def to_input(self, pixels: np.ndarray) -> np.ndarray:
        """RGB uint8 [3, H, W] in any memory layout -> what the file takes. Raises RequestError for anything else."""
        require_image(pixels, self.height, self.width, self.file)
        channels_last = np.ascontiguousarray(pixels.transpose(1, 2, 0), dtype=np.float32)  # [3, H, W] -> [H, W, 3]
        return channels_last[None] / np.float32(255)


def read_interface(path: Path, model: Any) -> Interface:
    """The interface of `model`, the root table of the file. Raises ArtifactError for a graph with any other.

    For runtimes that silently take other data: buffers, pipes.
    """
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    try:
        ends = [[tensors[i] for i in end] for end in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())]
        shapes = [tuple(int(n) for n in tensor.ShapeAsNumpy()) for end in ends for tensor in end]
        is_float = all(tensor_types().get(tensor.Type()) == "FLOAT32" for end in ends for tensor in end)
    except (IndexError, TypeError) as error:  # a tensor that is missing, or none at all
        raise ArtifactError(f"{path} is damaged: its interface cannot be read") from error
    match shapes:
        case [(1, height, width, 3), (1, classes)] if is_float and len(ends[0]) == 1:
            return Interface(path.name, height, width, classes)
        case [(1, height, width, 3), (1, channels, rows, columns)] if is_float and len(ends[0]) == 1:
            return Interface(path.name, height, width, channels * rows * columns)
    raise ArtifactError(f"{path} does not go from one float32 [1, H, W, 3] to one [1, num_classes]: {shapes}")
