"""LiteRT.js in a browser: on WASM with XNNPACK, and on WebGPU, by the engine of the browser app."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mobilevit_converters.tflite.file.flatbuffer import read_model
from mobilevit_converters.tflite.file.schema import holds_float16
from mobilevit_converters.tflite.passes.interface import read_interfaces
from mobilevit_converters.tflite.runtimes import browser_program, chromium, litertjs
from mobilevit_converters.tflite.runtimes.gpu import GPU_REFUSES
from mobilevit_converters.tflite.runtimes.vulkan import find_driver
from mobilevit_converters.tflite.toolchain import availability
from mobilevit_sdk.demos import demo_folder
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, Size, chosen_by_size
from mobilevit_sdk.processes.external_runtime import ExternalRuntime

TIMEOUT = 900.0  # seconds, for a browser that starts on a busy machine, and for an image on a GPU that is software


class _Web:
    format = "tflite"
    requirement = litertjs.REQUIREMENT
    on_request = "a browser, which has to start"
    accelerator: str

    def availability(self) -> Availability:
        if not (reader := availability("ai-edge-litert")):  # which reads the file before native code does
            return reader
        if (version := litertjs.installed_version()) is None:
            return Availability(None, f"not installed: {litertjs.HINT}")
        if missing := chromium.missing_browser():
            return Availability(None, missing)
        return Availability(version)

    def install(self, on_progress: Callable[[str], None]) -> Path:
        return litertjs.install_litertjs(on_progress)

    def web_files(self) -> Path:
        return litertjs.web_files()

    def flags(self) -> tuple[str, ...]:
        return ()

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Raises ArtifactError too for a file that LiteRT.js does not take whole, and
        ToolchainError when the browser dies, hangs or answers nonsense.
        """
        model = read_model(path)
        interfaces = read_interfaces(path, model)
        first, several = next(iter(interfaces.values()))[1], len(interfaces) > 1
        browser = chromium.find_browser()
        if browser is None:
            raise ToolchainError(f"{chromium.missing_browser()}")
        job = browser_program.Job(
            file=str(path.resolve()),
            entries=tuple(
                (entry.name if several else None, (1, each.height, each.width, 3))
                for entry, each in interfaces.values()
            ),
            precision="fp16" if holds_float16(model) else "fp32",
            accelerator=self.accelerator,
            outputs=tuple(first.outputs),
            demo=str(demo_folder("web_demo")),
            litert=str(litertjs.web_files()),
            browser=browser,
            flags=self.flags(),
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", browser_program.__name__, job.to_json()]
        name = f"LiteRT.js on {self.accelerator}"
        runtime = ExternalRuntime(name, command, classes=first.values, timeout=TIMEOUT, environment=environment)

        def load(size: Size) -> LoadedArtifact:
            place, interface = list(interfaces).index(size), interfaces[size][1]
            return lambda pixels: runtime(np.append(np.float32(place), interface.to_input(pixels)))

        choose = chosen_by_size(interfaces, load, path.name)
        return lambda pixels: choose(pixels)(pixels)


class LiteRTWebRuntime(_Web):
    """LiteRT.js on WASM with XNNPACK, as in a browser without WebGPU."""

    name = "litert-web"
    accelerator = "wasm"


class LiteRTWebGPURuntime(_Web):
    """LiteRT.js on WebGPU with nothing left to WASM: on this machine's GPU, or on SwiftShader in the browser."""

    name = "litert-webgpu"
    accelerator = "webgpu"
    refuses: Mapping[str, str] = GPU_REFUSES

    def flags(self) -> tuple[str, ...]:
        """A GPU of this machine that Vulkan knows, else the browser's own SwiftShader."""
        if sys.platform == "darwin":
            return ()
        driver = find_driver()
        has_gpu = driver is not None and driver.manifest is None and "SwiftShader" not in driver.name
        return chromium.HARDWARE_GPU if has_gpu else chromium.SOFTWARE_GPU
