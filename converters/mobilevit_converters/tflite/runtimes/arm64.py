"""LiteRT's build for ARM64 on an emulated machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mobilevit_converters.emulation import arm64
from mobilevit_converters.emulation.build import ARM64Build, OnProgress
from mobilevit_converters.emulation.instructions import count_instructions
from mobilevit_converters.emulation.wheels import install_wheels
from mobilevit_converters.tflite.runtimes.other_python import load_in
from mobilevit_converters.tflite.toolchain import availability
from mobilevit_sdk.formats.runtime import Availability, InstructionCount, LoadedArtifact

MODULE = "ai_edge_litert.interpreter"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")


def _fetch(version: str, folder: Path, on_progress: OnProgress) -> None:
    install_wheels((f"ai-edge-litert=={version}", "numpy>=2,<3"), folder, arm64.PYTHON, platforms=PLATFORMS)


def _check(machine: arm64.EmulatedMachine, folder: Path) -> list[str]:
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import {MODULE}"
    return [*machine.python, "-I", "-S", "-c", code]


_BUILD = ARM64Build("LiteRT", installed=partial(availability, "ai-edge-litert"), fetch=_fetch, check=_check)


class LiteRTARM64Runtime:
    """LiteRT of the version that is installed here, with XNNPACK's kernels for ARM."""

    name = "arm64"
    format = "tflite"
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
    return load_in(
        *(_BUILD.title, machine.python, _BUILD.folder, MODULE, path),
        timeout=arm64.TIMEOUT,
        environment=arm64.ENVIRONMENT,
    )
