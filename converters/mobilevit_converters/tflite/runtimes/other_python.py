"""TFLite interpreters of packages that belong to another Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mobilevit_converters.tflite.file.flatbuffer import read_model
from mobilevit_converters.tflite.passes.interface import read_interfaces
from mobilevit_converters.tflite.runtimes import interpreter_program
from mobilevit_sdk.formats.runtime import LoadedArtifact, Size, chosen_by_size
from mobilevit_sdk.processes.external_runtime import ExternalRuntime


def load_in(
    name: str,
    python: Sequence[str],
    packages: Path,
    module: str,
    path: Path,
    *,
    timeout: float,
    environment: Mapping[str, str],
) -> LoadedArtifact:
    """Load a file with `module`'s interpreter, of `packages`, in a process of the command `python`.

    `timeout` is the longest that it may take to load or to answer, in seconds. Raises ArtifactError and ToolchainError
    like `ExternalRuntime`, and ArtifactError for a file that does not go from one image to scores or features.
    """
    interfaces = read_interfaces(path, read_model(path))
    program = [*python, "-I", "-S", interpreter_program.__file__, str(packages), module, str(path.resolve())]

    def load(size: Size) -> LoadedArtifact:
        entry, interface = interfaces[size]
        command = [*program, entry.name if len(interfaces) > 1 else "", *interface.outputs]
        runtime = ExternalRuntime(name, command, classes=interface.values, timeout=timeout, environment=environment)
        return lambda pixels: runtime(interface.to_input(pixels))

    choose = chosen_by_size(interfaces, load, path.name)
    return lambda pixels: choose(pixels)(pixels)
