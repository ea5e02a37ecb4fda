"""LiteRT's build for ARM64, which is that of most phones, on an emulated machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mobilevit_converters.emulation import arm64
from mobilevit_converters.emulation.wheels import install_wheels
from mobilevit_converters.tflite.runtimes.other_python import load_in
from mobilevit_converters.tflite.toolchain import availability
from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact

MODULE = "ai_edge_litert.interpreter"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")


class LiteRTARM64Runtime:
    """LiteRT of the version that is installed here, with XNNPACK's kernels for ARM. For correctness alone: no latency
    that an emulator shows is a phone's.
    """

    name = "arm64"
    format = "tflite"
    requirement = arm64.REQUIREMENT
    on_request = arm64.ON_REQUEST

    def availability(self) -> Availability:
        if not (here := availability("ai-edge-litert")):  # which reads the file before native code does
            return here
        try:
            machine, packages = arm64.emulated(), _packages(here.version)
        except (ToolchainError, RequestError) as error:
            return Availability(None, str(error))
        if machine.version and packages.is_dir():
            return Availability(f"{here.version} on {machine.version}")
        return Availability(None, f"LiteRT {here.version} for ARM64 is not installed: {arm64.HINT}")

    def install(self, on_progress: Callable[[str], None]) -> Path:
        here = availability("ai-edge-litert")
        if not here:
            raise ToolchainError(here.reason)
        machine, packages = arm64.install(on_progress), _packages(here.version)
        if _imports(machine, packages):
            on_progress(f"LiteRT {here.version} for ARM64 is already in {packages}")
            return packages
        with replacing(packages) as fresh:
            on_progress(f"fetching LiteRT {here.version} for ARM64")
            wheels = (f"ai-edge-litert=={here.version}", "numpy>=2,<3")
            install_wheels(wheels, fresh, arm64.PYTHON, platforms=PLATFORMS)
            if not _imports(machine, fresh):
                raise ToolchainError(f"LiteRT {here.version} for ARM64 does not run on {machine.version}")
        on_progress(f"LiteRT {here.version} for ARM64 in {packages}")
        return packages

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Raises ToolchainError too when its process dies or hangs."""
        machine, version = arm64.emulated(), availability("ai-edge-litert").version
        name = f"LiteRT {version} for ARM64"
        packages = _packages(version)
        return load_in(
            name, machine.python, packages, MODULE, path, timeout=arm64.TIMEOUT, environment=arm64.ENVIRONMENT
        )


def _packages(version: str | None) -> Path:
    return arm64.part(f"litert-{version}")


def _imports(machine: arm64.EmulatedMachine, packages: Path) -> bool:
    code = f"import sys; sys.path.insert(0, {str(packages)!r}); import {MODULE}"
    return machine.runs([*machine.python, "-I", "-S", "-c", code])
