"""A .pte file loaded by ExecuTorch's runtime through its Python bindings, with all its outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilevit_converters.executorch.file.program import FORWARD, ProgramFile, read_program
from mobilevit_converters.executorch.toolchain import import_runtime
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import require_image

if TYPE_CHECKING:
    import torch

ToInput = Callable[["np.ndarray"], "torch.Tensor"]
Execute = Callable[["torch.Tensor"], Sequence["torch.Tensor"]]


def load_program(path: Path, method: str = FORWARD) -> tuple[ToInput, Execute, ProgramFile]:
    """What makes a method's input from an image, what computes all its outputs from that input, and the file.

    The image is RGB uint8 [3, H, W], the input float32 [1, 3, H, W] in [0, 1]. Raises ArtifactError for anything but
    a whole program that the runtime loads.
    """
    file = read_program(path)  # an incomplete program is refused before native code sees it
    runtime = import_runtime("executorch.runtime")
    import torch

    try:
        program = runtime.Runtime.get().load_program(path)
        loaded = program.load_method(method)
    except RuntimeError as error:
        raise ArtifactError(f"ExecuTorch cannot load {path}: {error}") from error

    def to_input(pixels: np.ndarray) -> torch.Tensor:
        _, _, height, width = loaded.metadata.input_tensor_meta(0).sizes()
        require_image(pixels, height, width, path.name)
        # The runtime accepts a tensor in channels-last memory and silently reads it as if it were contiguous.
        image = np.ascontiguousarray(pixels, dtype=np.float32)[None] / np.float32(255)
        return torch.from_numpy(image)

    return to_input, lambda given: loaded.execute([given]), file
