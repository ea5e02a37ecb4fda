"""ExecuTorch's own runtime, with XNNPACK, through its Python bindings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilevit_converters.executorch.file.program import read_program
from mobilevit_converters.executorch.toolchain import availability, import_runtime
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, Session, require_image

if TYPE_CHECKING:
    import torch

    from mobilevit_sdk.formats.taps import TappedArtifact


class ExecuTorchRuntime:
    """The portable runtime: XNNPACK for what was delegated to it, portable kernels for the rest."""

    name = "executorch"
    format = "executorch"

    def availability(self) -> Availability:
        return availability()

    def load(self, path: Path) -> LoadedArtifact:
        return self._load(path)

    def session(self, path: Path, threads: int) -> Session:
        """See TimedRuntime. The thread pool is the process's: what was loaded before would lose it."""
        bindings = import_runtime("executorch.extension.pybindings.portable_lib")
        if bindings._threadpool_get_thread_count() != threads:
            bindings._unsafe_reset_threadpool(threads)
        return self._load(path)

    def tap(self, path: Path) -> TappedArtifact:
        from mobilevit_converters.executorch.runtimes.taps import tap

        return tap(path)

    def _load(self, path: Path) -> Session:
        to_input, execute = self.all_outputs(path)

        def run(given: torch.Tensor) -> np.ndarray:
            (logits,) = execute(given)
            scores: np.ndarray = logits.reshape(-1).numpy()
            return scores

        return Session(to_input, run)

    def all_outputs(
        self, path: Path
    ) -> tuple[Callable[[np.ndarray], torch.Tensor], Callable[[torch.Tensor], Sequence[torch.Tensor]]]:
        """What makes the program's input of an image, and what computes all its outputs from that."""
        read_program(path)  # what is no whole program is refused before native code sees it
        runtime = import_runtime("executorch.runtime")
        import torch

        try:
            program = runtime.Runtime.get().load_program(path)
            forward = program.load_method("forward")
        except RuntimeError as error:
            raise ArtifactError(f"ExecuTorch cannot load {path}: {error}") from error

        def to_input(pixels: np.ndarray) -> torch.Tensor:
            _, _, height, width = forward.metadata.input_tensor_meta(0).sizes()
            require_image(pixels, height, width, path.name)
            # The runtime takes a tensor in channels-last memory and reads it as if it were contiguous, without a word.
            image = np.ascontiguousarray(pixels, dtype=np.float32)[None] / np.float32(255)
            return torch.from_numpy(image)

        return to_input, lambda given: forward.execute([given])
