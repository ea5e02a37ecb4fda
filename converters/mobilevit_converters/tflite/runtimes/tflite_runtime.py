"""The interpreter of apps that shipped before LiteRT: tflite-runtime's, in an environment of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which

from mobilevit_converters.emulation.wheels import install_wheels
from mobilevit_converters.tflite.runtimes.other_python import load_in
from mobilevit_converters.tflite.toolchain import availability
from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.files import cache_folder, replacing
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact

VERSION = "2.14.0"  # the last release
REQUIREMENTS = (f"tflite-runtime=={VERSION}", "numpy<2")  # it was built for numpy 1, and does not say so
PYTHONS = ("3.11", "3.10", "3.9")  # that it has wheels for
MODULE = "tflite_runtime.interpreter"
TIMEOUT = 120.0  # seconds; the largest of the networks takes a second or two for an image


class TFLiteRuntime:
    """tflite-runtime as released, with its XNNPACK of 2023: one thread, in a process of its own.

    It and the numpy 1 that it needs lie in the user's cache folder. It runs in this Python where it has wheels for it,
    else in an older one on PATH.
    """

    name = "tflite-runtime"
    format = "tflite"
    requirement = "tflite-runtime"
    refuses: Mapping[str, str] = {
        "int8-dynamic": "2.14.0 does not know a scale for each channel of a matrix",
        "int4-weight": "2.14.0 does not know weights in groups",
    }

    def availability(self) -> Availability:
        if not (reader := availability("ai-edge-litert")):  # which reads the file before native code does
            return reader
        try:
            is_there = find_python().has_it(_folder())
        except (ToolchainError, RequestError) as error:
            return Availability(None, str(error))
        return Availability(VERSION) if is_there else Availability(None, f"not installed: {_HINT}")

    def install(self, on_progress: Callable[[str], None]) -> Path:
        python, target = find_python(), _folder()
        if python.has_it(target) and python.imports_it(target):
            on_progress(f"tflite-runtime is already in {target}")
            return target
        with replacing(target) as fresh:
            on_progress(f"fetching {' and '.join(REQUIREMENTS)} for Python {python.version}")
            install_wheels(REQUIREMENTS, fresh / python.version, python.version)
            if not python.imports_it(fresh):
                raise ToolchainError(f"tflite-runtime {VERSION} does not import in {python.program}")
        on_progress(f"tflite-runtime {VERSION} in {target}")
        return target

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Raises ArtifactError too for operators that it does not know, and
        ToolchainError when its process dies, hangs or answers nonsense.
        """
        python = find_python()
        packages = _folder() / python.version
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        name = f"tflite-runtime {VERSION}"
        return load_in(name, [python.program], packages, MODULE, path, timeout=TIMEOUT, environment=environment)


_HINT = f"mobilevit doctor --install {TFLiteRuntime.requirement}"


@dataclass(frozen=True)
class Python:
    """An interpreter that tflite-runtime has wheels for. A folder of packages has one inside for each version."""

    program: str
    version: str

    def has_it(self, folder: Path) -> bool:
        return (folder / self.version / f"tflite_runtime-{VERSION}.dist-info").is_dir()

    def imports_it(self, folder: Path) -> bool:
        code = f"import sys; sys.path.insert(0, {str(folder / self.version)!r}); import {MODULE}"
        return _answers(self.program, code)


@cache
def find_python() -> Python:
    """This Python, where tflite-runtime has wheels for it, else the newest on PATH of those that it has wheels for.

    Raises ToolchainError when there is none.
    """
    machine = f"{platform.system()} {platform.machine()}"
    if machine not in ("Linux x86_64", "Linux aarch64"):
        raise ToolchainError(f"tflite-runtime {VERSION} has no wheels for {machine}")
    own = own_version()
    if own in PYTHONS:
        return Python(sys.executable, own)
    for version in PYTHONS:
        program = which(f"python{version}")
        if program and _answers(program, f"import sys; assert '%d.%d' % sys.version_info[:2] == {version!r}"):
            return Python(program, version)
    raise ToolchainError(
        f"tflite-runtime {VERSION}, the last, has wheels up to Python {PYTHONS[0]} and this is {own}; put one of "
        f"python{', python'.join(PYTHONS)} on PATH, then: {_HINT}"
    )


def own_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _answers(program: str, code: str) -> bool:
    """Whether `code` runs there without an error; what stands on PATH may be a stub."""
    with suppress(OSError, subprocess.TimeoutExpired):
        return not subprocess.run([program, "-I", "-S", "-c", code], capture_output=True, timeout=TIMEOUT).returncode
    return False


def _folder() -> Path:
    return cache_folder() / "tflite-runtime"
