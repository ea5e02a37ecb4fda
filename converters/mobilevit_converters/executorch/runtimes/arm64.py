"""ExecuTorch's build for ARM64, which is that of most phones, on an emulated machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mobilevit_converters.emulation import arm64
from mobilevit_converters.executorch.file.program import read_interface, read_program
from mobilevit_converters.executorch.runtimes.arm64_build import RUNNER, build
from mobilevit_converters.executorch.toolchain import availability
from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, require_image
from mobilevit_sdk.processes.external_runtime import ExternalRuntime


class ExecuTorchARM64Runtime:
    """ExecuTorch of the version that is installed here, with XNNPACK's kernels for ARM. For correctness alone: no
    latency that an emulator shows is a phone's.
    """

    name = "arm64"
    format = "executorch"
    requirement = arm64.REQUIREMENT
    on_request = arm64.ON_REQUEST

    def availability(self) -> Availability:
        if not (here := availability()):  # which reads the file before native code does
            return here
        try:
            machine, runner = arm64.emulated(), _runner()
        except (ToolchainError, RequestError) as error:
            return Availability(None, str(error))
        if machine.version and runner.is_file():
            return Availability(f"{here.version} on {machine.version}")
        return Availability(None, f"ExecuTorch {here.version} for ARM64 is not installed: {arm64.HINT}")

    def install(self, on_progress: Callable[[str], None]) -> Path:
        here = availability()
        if not here.version:
            raise ToolchainError(here.reason)
        machine, folder = arm64.install(on_progress), _runner().parent
        if machine.runs(machine.command(_runner())):
            on_progress(f"ExecuTorch {here.version} for ARM64 is already in {folder}")
            return folder
        with replacing(folder) as fresh:
            build(here.version, fresh, on_progress)
            if not machine.runs(machine.command(fresh / RUNNER)):
                raise ToolchainError(f"ExecuTorch {here.version} for ARM64 does not run on {machine.version}")
        on_progress(f"ExecuTorch {here.version} for ARM64 in {folder}")
        return folder

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Raises ToolchainError too when its process dies or hangs."""
        image, scores = read_interface(read_program(path))
        command = arm64.emulated().command(_runner(), str(path.resolve()), *map(str, image.sizes))
        worker = ExternalRuntime(
            f"ExecuTorch {availability().version} for ARM64",
            command,
            classes=scores.sizes[1],
            timeout=arm64.TIMEOUT,
            environment=arm64.ENVIRONMENT,
        )
        _, _, height, width = image.sizes

        def predict(pixels: np.ndarray) -> np.ndarray:
            require_image(pixels, height, width, path.name)
            return worker(np.ascontiguousarray(pixels, dtype=np.float32)[None] / np.float32(255))

        return predict


def _runner() -> Path:
    return arm64.part(f"executorch-{availability().version}") / RUNNER
