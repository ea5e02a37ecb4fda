"""ExecuTorch's own runtime, with XNNPACK, on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilevit_converters.executorch.file.program import FORWARD, method_of, read_interface, read_program, read_spec
from mobilevit_converters.executorch.runtimes.float16 import float16_refusal
from mobilevit_converters.executorch.runtimes.session import load_program
from mobilevit_converters.executorch.toolchain import availability, import_runtime
from mobilevit_sdk.formats.entries import entry_names
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, Session, Size, as_row, session_by_size

if TYPE_CHECKING:
    import torch

    from mobilevit_sdk.formats.taps import TappedArtifact


class ExecuTorchRuntime:
    """The portable runtime: XNNPACK for what was delegated to it, portable kernels for the rest."""

    name = "executorch"
    format = "executorch"

    def availability(self) -> Availability:
        return availability()

    @property
    def refuses(self) -> Mapping[str, str]:
        """See SelectiveRuntime: float16, on a processor without it."""
        reason = float16_refusal()
        return {} if reason is None else {"fp16": reason}

    def load(self, path: Path) -> LoadedArtifact:
        return _session(path)

    def session(self, path: Path, threads: int) -> Session:
        """See TimedRuntime. The thread pool belongs to the process: programs loaded before would lose it."""
        bindings = import_runtime("executorch.extension.pybindings.portable_lib")
        if bindings._threadpool_get_thread_count() != threads:
            bindings._unsafe_reset_threadpool(threads)
        return _session(path)

    def tap(self, path: Path, image_size: Size = None) -> TappedArtifact:
        from mobilevit_converters.executorch.runtimes.taps import tap

        return tap(path, method_of(path, image_size))


def _session(path: Path) -> Session:
    names = entry_names(read_spec(read_program(path)), FORWARD)
    return session_by_size(names, lambda size: _method_session(path, names[size]), path.name)


def _method_session(path: Path, name: str) -> Session:
    to_input, execute, file = load_program(path, name)
    spec, method = read_spec(file), file.method(name)
    if (method and len(method.outputs) != 1) or (spec and len(spec.outputs) != 1):
        read_interface(file, name)  # which refuses other outputs than those of the spec

    def run(given: torch.Tensor) -> np.ndarray:
        return as_row(answer.numpy() for answer in execute(given))

    return Session(to_input, run)
