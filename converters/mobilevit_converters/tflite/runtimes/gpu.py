"""LiteRT on the GPU alone, as on a phone whose app asks for the GPU."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_converters.tflite.file.entries import GraphEntry
from mobilevit_converters.tflite.file.flatbuffer import read_model
from mobilevit_converters.tflite.file.schema import holds_float16
from mobilevit_converters.tflite.passes.interface import Interface, read_interfaces
from mobilevit_converters.tflite.runtimes.vulkan import (
    CHOICES,
    MANIFEST,
    find_driver,
    find_swiftshader,
    install_swiftshader,
)
from mobilevit_converters.tflite.toolchain import availability, import_from
from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, as_row, chosen_by_size

ACCELERATOR = "libLiteRtWebGpuAccelerator.so"
INSTALL = "mobilevit doctor --install swiftshader"

GPU_REFUSES: Mapping[str, str] = {
    "int8": "the GPU takes no operators in integers whole",
    "int8-weight": "the GPU does not unpack weights in 8 bits",
    "int4-weight": "the GPU does not unpack weights in 4 bits",
}

# What the accelerator writes: a line for each kind of operator with the reason, then how many stay where.
_LEFT_TO_CPU = r"not supported by GPU delegate:\n(.+?)\n(\d+) operations will run on the GPU.+? (\d+) operations"


class LiteRTGPURuntime:
    """LiteRT's WebGPU accelerator on a Vulkan driver, with nothing left to the CPU.

    A file with float32 weights is computed in float32. One with float16 weights is computed in float16 where the GPU
    has it, as on a phone; SwiftShader has not.
    """

    name = "litert-gpu"
    format = "tflite"
    requirement = "swiftshader"
    refuses = GPU_REFUSES

    def availability(self) -> Availability:
        found = availability("ai-edge-litert")
        if not found:
            return found
        package = importlib.metadata.distribution("ai-edge-litert")
        if not Path(str(package.locate_file(f"ai_edge_litert/{ACCELERATOR}"))).is_file():
            return Availability(None, f"this build of ai-edge-litert {found.version} has no GPU accelerator for Vulkan")
        driver = find_driver()
        if driver:
            return Availability(f"{found.version} on {driver.name}")
        if chosen := next((name for name in CHOICES if os.environ.get(name)), None):
            return Availability(None, f"{chosen} names no Vulkan driver that works; unset it, or: {INSTALL}")
        return Availability(None, f"no Vulkan driver for a GPU is here; one that needs no GPU: {INSTALL}")

    def install(self, on_progress: Callable[[str], None]) -> Path:
        return install_swiftshader(on_progress)

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Raises ArtifactError too when the accelerator does not take the
        whole graph, with the operators that it leaves, and ToolchainError when no driver works.
        """
        model = read_model(path)
        interfaces = read_interfaces(path, model)
        litert = import_from("ai-edge-litert", "ai_edge_litert.compiled_model")
        options = litert.Options(
            hardware_accelerators=litert.HardwareAccelerator.GPU,
            gpu_options=litert.GpuOptions(enforce_f32=not holds_float16(model)),
        )
        driver = find_driver()
        if driver is None:
            raise ToolchainError(self.availability().reason)
        with driver.selected(), _standard_error() as words:
            try:
                compiled = litert.CompiledModel.from_file(str(path), options=options)
                failure = None if compiled.is_fully_accelerated() else "some operators stay on the CPU"
            except (RuntimeError, ValueError) as error:
                failure = str(error)
        if failure is not None:
            raise _refusal(path, driver.name, words(), failure)
        choose = chosen_by_size(interfaces, lambda size: _signature(compiled, *interfaces[size]), path.name)
        return lambda pixels: choose(pixels)(pixels)


def _signature(compiled: Any, entry: GraphEntry, interface: Interface) -> LoadedArtifact:
    """One of the signatures of a compiled model."""
    index = entry.signature
    images, answers = compiled.create_input_buffers(index), compiled.create_output_buffers(index)
    named = list(interface.outputs)
    if len(named) > 1:  # the buffers stand in the order of the signature
        named = compiled.get_signature_by_index(index)["outputs"]

    def predict(pixels: np.ndarray) -> np.ndarray:
        images[0].write(interface.to_input(pixels))
        compiled.run_by_index(index, images, answers)
        found = dict(zip(named, answers, strict=True))
        return as_row(found[name].read(size, np.float32) for name, size in interface.outputs.items())

    return predict


@contextmanager
def _standard_error() -> Iterator[Callable[[], str]]:
    """Give what native code writes to standard error within the block, and write it there after it."""
    content = ""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: content
        finally:
            os.dup2(kept, 2)
            file.seek(0)
            written = file.read()
            content = written.decode(errors="replace")
            with os.fdopen(kept, "wb") as stream:
                stream.write(written)


def _refusal(path: Path, driver: str, words: str, failure: str) -> ArtifactError | ToolchainError:
    """Whose fault it is that LiteRT did not compile the file, by what it wrote meanwhile."""
    if "Failed to initialize WebGPU environment" in words:
        return ToolchainError(
            f"LiteRT's GPU accelerator takes no device of {driver}; for SwiftShader, `{INSTALL}` and set "
            f"{CHOICES[0]}={find_swiftshader() or '<its folder>'}/{MANIFEST}"
        )
    if left := re.search(_LEFT_TO_CPU, words, re.DOTALL):
        named, on_gpu, on_cpu = left.groups()
        failure = f"{on_cpu} of {int(on_gpu) + int(on_cpu)} operators stay on the CPU: {'; '.join(named.splitlines())}"
    return ArtifactError(f"{path} does not run wholly on the GPU: {' '.join(failure.split())}")
