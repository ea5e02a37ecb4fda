"""ExecuTorch's own runtime with the delegates that only Apple's systems have."""

from __future__ import annotations

import platform
from pathlib import Path

from mobilevit_converters.executorch.file.program import COREAI, COREML, read_program
from mobilevit_converters.executorch.runtimes.host import ExecuTorchRuntime
from mobilevit_converters.executorch.toolchain import NO_RUNTIME, availability, import_runtime
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact


class CoreMLDelegateRuntime:
    """With the Core ML delegate, which ExecuTorch's wheels for macOS carry."""

    name = "executorch"
    format = "executorch"
    delegate, title, elsewhere = COREML, "Core ML", "coreml-reference"

    def availability(self) -> Availability:
        if platform.system() == "Darwin":
            return availability()
        reason = f"ExecuTorch's {self.title} delegate runs on macOS and iOS only"
        return Availability(None, f"{reason}; {self.elsewhere} executes its program here")

    def load(self, path: Path) -> LoadedArtifact:
        read_program(path)  # an incomplete program is refused before native code sees it
        backends = import_runtime("executorch.runtime").Runtime.get().backend_registry
        if not backends.is_available(self.delegate):
            raise ToolchainError(f"executorch {availability().version} was built without {self.delegate}")
        return ExecuTorchRuntime().load(path)


class CoreAIDelegateRuntime(CoreMLDelegateRuntime):
    """With the Core AI delegate, which no wheel carries yet: ExecuTorch 1.5 writes it and does not run it."""

    delegate, title, elsewhere = COREAI, "Core AI", "coreai"

    def availability(self) -> Availability:
        found = availability()
        if found.version is not None and found.version.startswith("1.5."):
            return Availability(None, f"ExecuTorch {found.version} {NO_RUNTIME}; coreai executes their program")
        return super().availability() if found else found
