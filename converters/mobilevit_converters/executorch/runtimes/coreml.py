"""Runtimes for .pte files whose graph is a Core ML delegate: ExecuTorch on a Mac, and the reference anywhere."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilevit_converters.executorch.file.coreml_delegate import read_coreml_delegate
from mobilevit_converters.executorch.file.program import (
    COREML,
    Delegate,
    ProgramFile,
    Tensor,
    read_interface,
    read_program,
)
from mobilevit_converters.executorch.runtimes.host import ExecuTorchRuntime
from mobilevit_converters.executorch.toolchain import availability, coreml_availability, import_runtime
from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, require_image

if TYPE_CHECKING:
    import torch

    from mobilevit_converters.coreml.runtimes.reference.program import ReferenceProgram
    from mobilevit_sdk.formats.taps import TappedArtifact


class CoreMLDelegateRuntime:
    """ExecuTorch's own runtime with its Core ML delegate, which ExecuTorch's wheels for macOS carry."""

    name = "executorch"
    format = "executorch"

    def availability(self) -> Availability:
        if platform.system() != "Darwin":
            reason = (
                "ExecuTorch's Core ML delegate runs on macOS and iOS only; coreml-reference executes its program here"
            )
            return Availability(None, reason)
        return availability()

    def load(self, path: Path) -> LoadedArtifact:
        read_program(path)  # an incomplete program is refused before native code sees it
        backends = import_runtime("executorch.runtime").Runtime.get().backend_registry
        if not backends.is_available(COREML):
            raise ToolchainError(f"executorch {availability().version} was built without {COREML}")
        return ExecuTorchRuntime().load(path)


class CoreMLReferenceRuntime:
    """Evaluates the Core ML program inside the file, as `coreml.runtimes.reference` does that of an .mlpackage."""

    name = "coreml-reference"
    format = "executorch"

    def availability(self) -> Availability:
        return coreml_availability()

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Raises ToolchainError that names an operator it does not know.

        The answer is the embedded program's, so the .pte around it must pass the image on unchanged and do nothing
        else: one that does more, or that has another memory layout, is refused with ArtifactError.
        """
        program, to_input, answer = self._load(path)

        def predict(pixels: np.ndarray) -> np.ndarray:
            result: np.ndarray = program(to_input(pixels))[answer].numpy()
            return result.reshape(-1)

        return predict

    def tap(self, path: Path) -> TappedArtifact:
        """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`."""
        from mobilevit_converters.coreml.runtimes.reference.taps import tap_program

        program, to_input, _ = self._load(path)
        return tap_program(program, to_input)

    def _load(self, path: Path) -> tuple[ReferenceProgram, Callable[[np.ndarray], dict[str, torch.Tensor]], str]:
        """The program, what makes its input from an image, and the name of its answer."""
        import torch

        from mobilevit_converters.coreml.inspect import describe
        from mobilevit_converters.coreml.runtimes.reference.program import ReferenceProgram

        file = read_program(path)
        delegate, image, scores = _only_step(file)
        contents = read_coreml_delegate(path, file.delegate_data(delegate))
        with contents.package() as package:
            inside, program = describe(package), ReferenceProgram(package)
        names = contents.names
        inputs = [(info.name, list(info.shape), info.dtype) for info in inside.inputs]
        outputs = [(info.name, list(info.shape)) for info in inside.outputs if info.dtype in ("float16", "float32")]
        if (
            inputs != [(name, image.sizes, "float32") for name in names.inputNames]
            or outputs != [(name, scores.sizes) for name in names.outputNames]
            or (tuple(program.inputs), tuple(program.output_names)) != (names.inputNames, names.outputNames)
            or (len(inputs), len(outputs)) != (1, 1)
        ):
            raise ArtifactError(f"{path} is damaged: its Core ML delegate takes and returns other tensors than it says")
        (name,), (answer,) = names.inputNames, names.outputNames
        _, _, height, width = image.sizes

        def to_input(pixels: np.ndarray) -> dict[str, torch.Tensor]:
            require_image(pixels, height, width, path.name)
            unit = np.ascontiguousarray(pixels, dtype=np.float32)[None] / np.float32(255)
            return {name: torch.from_numpy(unit)}

        return program, to_input, answer


def _only_step(file: ProgramFile) -> tuple[Delegate, Tensor, Tensor]:
    """The one Core ML delegate that a program calls, the image that it takes and the scores that it returns.

    Raises ArtifactError for a program that does anything else, or does not take float32 [1, 3, H, W] in that order.
    """
    forward = file.method("forward")
    try:
        if forward is None:
            raise ValueError("it has no method `forward`")
        (step,) = (instruction for chain in forward.chains for instruction in chain.instructions)
        delegate = forward.delegates[step.instr_args["delegate_index"]]
        (given,), (answered,) = forward.inputs, forward.outputs
        if delegate.id != COREML or step.instr_args["args"] != [given, answered]:
            raise ValueError(f"its step is {delegate.id} from other values")
    except (ValueError, LookupError, TypeError) as error:
        reason = f"{file.path} is not one Core ML delegate from an image to scores"
        raise ArtifactError(f"{reason} ({error})") from error
    return delegate, *read_interface(file)
