"""The runtime for .pte files whose graph is a Core ML delegate that runs anywhere: Core ML's reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilevit_converters.executorch.file.coreml_delegate import read_coreml_delegate
from mobilevit_converters.executorch.file.program import COREML, read_program, read_sole_delegate
from mobilevit_converters.executorch.toolchain import coreml_availability
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, as_row, require_image

if TYPE_CHECKING:
    import torch

    from mobilevit_converters.coreml.runtimes.reference.program import ReferenceProgram
    from mobilevit_sdk.formats.taps import TappedArtifact


class CoreMLReferenceRuntime:
    """Evaluates the Core ML program inside the file, as `coreml.runtimes.reference` does that of an .mlpackage."""

    name = "coreml-reference"
    format = "executorch"

    def availability(self) -> Availability:
        return coreml_availability()

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Raises ToolchainError that names an operator it does not know.

        The answer is the embedded program's, so a .pte that does anything else is refused: see `read_sole_delegate`.
        """
        program, to_input, answers = self._load(path)

        def predict(pixels: np.ndarray) -> np.ndarray:
            found = program(to_input(pixels))
            return as_row(found[name].numpy() for name in answers)

        return predict

    def tap(self, path: Path) -> TappedArtifact:
        """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`."""
        from mobilevit_converters.coreml.runtimes.reference.taps import tap_program

        program, to_input, _ = self._load(path)
        return tap_program(program, to_input)

    def _load(self, path: Path) -> tuple[ReferenceProgram, Callable[[np.ndarray], dict[str, torch.Tensor]], list[str]]:
        """The program, what makes its input from an image, and the names of its answers."""
        import torch

        from mobilevit_converters.coreml.inspect import describe
        from mobilevit_converters.coreml.runtimes.reference.program import ReferenceProgram

        file = read_program(path)
        delegate, image, answers, order = read_sole_delegate(file, COREML)
        contents = read_coreml_delegate(path, file.delegate_data(delegate))
        with contents.package() as package:
            inside, program = describe(package), ReferenceProgram(package)
        names = contents.names
        inputs = [(info.name, list(info.shape), info.dtype) for info in inside.inputs]
        outputs = {info.name: list(info.shape) for info in inside.outputs if info.dtype in ("float16", "float32")}
        if (
            inputs != [(name, image.sizes, "float32") for name in names.inputNames]
            or len(names.outputNames) != len(answers)
            or [outputs.get(names.outputNames[i]) for i in order] != [answer.sizes for answer in answers]
            or (tuple(program.inputs), {*program.output_names}) != (names.inputNames, {*names.outputNames})
            or (len(inputs), len(outputs), len(inside.outputs)) != (1, len(answers), len(answers))
        ):
            raise ArtifactError(f"{path} is damaged: its Core ML delegate takes and returns other tensors than it says")
        (name,) = names.inputNames
        _, _, height, width = image.sizes

        def to_input(pixels: np.ndarray) -> dict[str, torch.Tensor]:
            require_image(pixels, height, width, path.name)
            unit = np.ascontiguousarray(pixels, dtype=np.float32)[None] / np.float32(255)
            return {name: torch.from_numpy(unit)}

        return program, to_input, [names.outputNames[i] for i in order]
