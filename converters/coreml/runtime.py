"""Core ML itself, on a Mac."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from converters.coreml.package import IMAGE, LOGITS, read_package
from converters.coreml.toolchain import availability, import_coremltools, quiet
from mobilevit_sdk.runtime import Availability, LoadedArtifact


class CoreMLRuntime:
    """Apple's runtime through coremltools, on whichever of CPU, GPU and Neural Engine it chooses."""

    name = "coreml"
    format = "coreml"

    def availability(self) -> Availability:
        if platform.system() != "Darwin":
            return Availability(None, "Core ML runs on macOS only; coreml-reference executes the same file here")
        return availability()

    def load(self, path: Path) -> LoadedArtifact:
        from PIL import Image

        ct = import_coremltools()
        read_package(path)  # what is no package is refused before native code sees it
        with quiet():
            model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit.ALL)

        def predict(image: np.ndarray) -> np.ndarray:
            pixels = np.ascontiguousarray(image.transpose(1, 2, 0))  # [3, H, W] -> [H, W, 3]
            scores: np.ndarray = model.predict({IMAGE: Image.fromarray(pixels)})[LOGITS]
            return scores.reshape(-1).astype(np.float32)

        return predict
