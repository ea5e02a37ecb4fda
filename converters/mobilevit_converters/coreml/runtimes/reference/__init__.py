"""Runs the program of an .mlpackage on any machine, so that a file for the iPhone can be proven on Linux.

An independent reading: program and weights come from the file alone, and each operator is evaluated by its
documented meaning. It models what the file states, not the order of summation or the fused kernels of one device.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilevit_converters.coreml.file.package import Package, read_package
from mobilevit_converters.coreml.toolchain import availability
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import (
    Availability,
    LoadedArtifact,
    Size,
    answer_names,
    as_row,
    chosen_by_size,
    require_image,
)

if TYPE_CHECKING:
    import torch

    from mobilevit_converters.coreml.runtimes.reference.program import ReferenceProgram
    from mobilevit_sdk.formats.taps import TappedArtifact


class ReferenceRuntime:
    """Evaluates each operator with torch, rounding to float16 wherever the program says float16."""

    name = "coreml-reference"
    format = "coreml"
    fp16_accumulation = False

    def availability(self) -> Availability:
        return availability()

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Raises ToolchainError that names an operator it does not know."""
        entries = read_package(path).entries()
        choose = chosen_by_size(entries, lambda size: self._predict(entries[size]), path.name)
        return lambda image: choose(image)(image)

    def _predict(self, package: Package) -> LoadedArtifact:
        program, to_input, answers = self._load(package)

        def predict(image: np.ndarray) -> np.ndarray:
            found = program(to_input(image))
            return as_row(found[name].numpy() for name in answers)

        return predict

    def tap(self, path: Path, image_size: Size = None) -> TappedArtifact:
        """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`."""
        from mobilevit_converters.coreml.runtimes.reference.taps import tap_program

        program, to_input, _ = self._load(read_package(path).entry(image_size))
        return tap_program(program, to_input)

    def _load(
        self, package: Package
    ) -> tuple[ReferenceProgram, Callable[[np.ndarray], dict[str, torch.Tensor]], list[str]]:
        """The program, what makes its input from an image, and the names of its answers."""
        import torch

        from mobilevit_converters.coreml.runtimes.reference.program import ReferenceProgram

        path, inputs = package.path, package.interface.input
        image_type = inputs[0].type.imageType if len(inputs) == 1 else None
        if image_type is None or image_type.colorSpace != image_type.RGB:
            raise ArtifactError(f"{path} does not take one RGB image")
        program = ReferenceProgram(package, fp16_accumulation=self.fp16_accumulation)
        name, height, width = inputs[0].name, image_type.height, image_type.width
        if list(program.inputs) != [name]:
            raise ArtifactError(f"the program of {path} does not go from {name!r} to logits or features")
        answers = answer_names(package.spec, program.output_names, package.path)

        def to_input(image: np.ndarray) -> dict[str, torch.Tensor]:
            require_image(image, height, width, path.name)
            # Core ML hands the program raw pixel values, 0 to 255; the scale to [0, 1] is an operator of the program.
            return {name: torch.from_numpy(np.ascontiguousarray(image)).to(torch.float32)[None]}

        return program, to_input, answers


class FP16AccumulationRuntime(ReferenceRuntime):
    """The same with every partial sum rounded to float16: a bound for hardware that sums so, whatever its order."""

    name = "coreml-fp16-accumulate"
    fp16_accumulation = True
    on_request = "a worst case, which no device has to be"
