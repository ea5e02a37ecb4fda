"""ExecuTorch's build for ARM64 on an emulated machine."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np

from mobilevit_converters.emulation import arm64
from mobilevit_converters.emulation.build import ARM64Build, OnProgress
from mobilevit_converters.emulation.instructions import count_instructions
from mobilevit_converters.executorch.file.program import FORWARD, read_interface, read_program, read_spec
from mobilevit_converters.executorch.runtimes.arm64_build import RUNNER, build, revision
from mobilevit_converters.executorch.toolchain import availability
from mobilevit_sdk.formats.entries import entry_names
from mobilevit_sdk.formats.runtime import (
    Availability,
    InstructionCount,
    LoadedArtifact,
    chosen_by_size,
    require_image,
)
from mobilevit_sdk.processes.external_runtime import ExternalRuntime

_BUILD = ARM64Build(
    "ExecuTorch",
    installed=availability,
    fetch=build,
    check=lambda machine, folder: machine.command(folder / RUNNER),
    revision=revision(),
)


class ExecuTorchARM64Runtime:
    """ExecuTorch of the version that is installed here, with XNNPACK's kernels for ARM."""

    name = "arm64"
    format = "executorch"
    requirement = arm64.REQUIREMENT
    on_request = arm64.ON_REQUEST

    def availability(self) -> Availability:
        return _BUILD.availability()

    def install(self, on_progress: OnProgress) -> Path:
        return _BUILD.install(on_progress)

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Also raises ToolchainError when its process dies or hangs."""
        return _load(path, arm64.emulated())

    def count_instructions(self, path: Path, image: np.ndarray) -> InstructionCount:
        """See `CountedRuntime.count_instructions`."""
        return count_instructions(arm64.emulated(), partial(_load, path), image)


def _load(path: Path, machine: arm64.EmulatedMachine) -> LoadedArtifact:
    names = entry_names(read_spec(read_program(path)), FORWARD)
    choose = chosen_by_size(names, lambda size: _load_method(path, machine, names[size]), path.name)
    return lambda pixels: choose(pixels)(pixels)


def _load_method(path: Path, machine: arm64.EmulatedMachine, method: str) -> LoadedArtifact:
    image, answers = read_interface(read_program(path), method)
    command = machine.command(_runner(), str(path.resolve()), method, *map(str, image.sizes))
    runtime = ExternalRuntime(
        _BUILD.title,
        command,
        classes=sum(math.prod(answer.sizes) for answer in answers),
        timeout=arm64.TIMEOUT,
        environment=arm64.ENVIRONMENT,
    )
    _, _, height, width = image.sizes

    def predict(pixels: np.ndarray) -> np.ndarray:
        require_image(pixels, height, width, path.name)
        return runtime(np.ascontiguousarray(pixels, dtype=np.float32)[None] / np.float32(255))

    return predict


def _runner() -> Path:
    return _BUILD.folder / RUNNER
