"""onnxruntime's CPU provider on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilevit_converters.onnx.file.model import read_interface, read_model
from mobilevit_converters.onnx.runtimes.session import open_session
from mobilevit_converters.onnx.toolchain import availability
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, Session, as_row

if TYPE_CHECKING:
    from mobilevit_sdk.formats.taps import TappedArtifact


class ONNXRuntime:
    """onnxruntime with its own kernels for CPUs (MLAS); on one thread unless more are asked for."""

    name = "onnxruntime"
    format = "onnx"

    def availability(self) -> Availability:
        return availability("onnxruntime")

    def load(self, path: Path) -> LoadedArtifact:
        return self.session(path, threads=1)

    def session(self, path: Path, threads: int) -> Session:
        model = read_model(path)  # what is incomplete or refers to other files is refused before native code sees it
        interface = read_interface(path, model)
        inference = open_session(path, model.SerializeToString(), threads)

        def run(given: np.ndarray) -> np.ndarray:
            return as_row(inference.run(interface.outputs, {interface.image: given}))

        return Session(interface.to_input, run)

    def tap(self, path: Path) -> TappedArtifact:
        from mobilevit_converters.onnx.runtimes.taps import tap

        return tap(path)
