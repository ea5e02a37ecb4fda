"""ExecuTorch's own runtime with its Vulkan backend, which no wheel carries: a library that the user has built."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from mobilevit_converters.executorch.file.program import read_program
from mobilevit_converters.executorch.file.vulkan_delegate import VULKAN
from mobilevit_converters.executorch.runtimes.host import ExecuTorchRuntime
from mobilevit_converters.executorch.toolchain import availability, import_runtime
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact

LIBRARY = "MOBILEVIT_EXECUTORCH_VULKAN"  # names a shared library that registers the backend when it is loaded


class VulkanDelegateRuntime:
    """On the Vulkan device that the machine's driver offers, a software one included."""

    name = "executorch"
    format = "executorch"

    def availability(self) -> Availability:
        found, library = availability(), os.environ.get(LIBRARY)
        if not found or (library and Path(library).is_file()):
            return found
        if library:
            return Availability(None, f"{LIBRARY} names {library}, which is not there")
        reason = f"executorch {found.version} is built without {VULKAN}, and {LIBRARY} names no library that has it"
        return Availability(None, f"{reason}; vulkan-reference evaluates the file instead")

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`. Raises ToolchainError for a library that does not fit the installed ExecuTorch."""
        read_program(path)  # an incomplete program is refused before native code sees it
        library = os.environ.get(LIBRARY, "")
        registry = import_runtime("executorch.runtime").Runtime.get().backend_registry
        if not registry.is_available(VULKAN):
            try:
                ctypes.CDLL(library)
            except OSError as error:
                raise ToolchainError(f"{LIBRARY}={library} does not load: {error}") from error
            if not registry.is_available(VULKAN):
                raise ToolchainError(f"{LIBRARY}={library} registers no {VULKAN} with this ExecuTorch")
        return ExecuTorchRuntime().load(path)
