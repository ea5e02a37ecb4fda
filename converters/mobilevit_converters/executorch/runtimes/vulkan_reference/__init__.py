"""Evaluates the Vulkan delegate of a .pte file on any machine, so that files for Android's GPUs are proven on Linux.

An independent reading: graph and weights come from the file alone, and each operator means what ExecuTorch's shaders
compute. It models what the file states, not one GPU: order of summation, layouts in memory and drivers are its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilevit_converters.executorch.file.program import read_program, read_sole_delegate
from mobilevit_converters.executorch.file.vulkan_delegate import VULKAN, read_vulkan_delegate
from mobilevit_converters.executorch.toolchain import availability
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, as_row, require_image

if TYPE_CHECKING:
    import torch

    from mobilevit_converters.executorch.runtimes.vulkan_reference.program import VulkanProgram
    from mobilevit_sdk.formats.taps import TappedArtifact


class VulkanReferenceRuntime:
    """Evaluates each operator with torch, rounding to float16 wherever the graph says float16."""

    name = "vulkan-reference"
    format = "executorch"
    truncate = False

    def availability(self) -> Availability:
        return availability()

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Raises ToolchainError that names an operator it does not know."""
        program, to_input, order = _load(path, truncate=self.truncate)

        def predict(pixels: np.ndarray) -> np.ndarray:
            answers = program(to_input(pixels))
            return as_row(answers[i].numpy() for i in order)

        return predict

    def tap(self, path: Path) -> TappedArtifact:
        """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`."""
        from mobilevit_sdk.formats.taps import Tap, TappedArtifact

        program, to_input, _ = _load(path, truncate=self.truncate)
        taps = {
            index: Tap(step.name, f"value {index}", program.shape(index) or ())
            for step in program.graph.chain
            for index in program.results(step)
        }

        def values(pixels: np.ndarray) -> list[np.ndarray]:
            found: dict[int, np.ndarray] = {}
            program(to_input(pixels), lambda index, value: found.__setitem__(index, value.numpy()))
            return [found[index] for index in taps]

        return TappedArtifact(tuple(taps.values()), values)


class VulkanTruncationRuntime(VulkanReferenceRuntime):
    """The same rounded toward zero, which Vulkan allows a driver and Mesa's lavapipe does."""

    name = "vulkan-truncate"
    truncate = True
    on_request = "a worst case, which no device has to be"


def _load(
    path: Path, *, truncate: bool = False
) -> tuple[VulkanProgram, Callable[[np.ndarray], torch.Tensor], list[int]]:
    """The program of the file's one delegate, what makes its input from an image, and where its answers stand."""
    import torch

    from mobilevit_converters.executorch.runtimes.vulkan_reference.program import VulkanProgram

    file = read_program(path)
    delegate, image, answers, order = read_sole_delegate(file, VULKAN)
    program = VulkanProgram(read_vulkan_delegate(file, delegate), truncate=truncate)
    borders = [(*map(program.shape, ids),) for ids in (program.graph.input_ids, program.graph.output_ids)]
    returned = [answers[order.index(i)] for i in range(len(order))]
    if borders != [(tuple(image.sizes),), tuple(tuple(answer.sizes) for answer in returned)]:
        raise ArtifactError(f"{path} is damaged: its Vulkan delegate takes and returns other tensors than it says")
    _, _, height, width = image.sizes

    def to_input(pixels: np.ndarray) -> torch.Tensor:
        require_image(pixels, height, width, path.name)
        return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)[None] / np.float32(255))

    return program, to_input, order
