"""LiteRT on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from converters.tflite.flatbuffer import read_model
from converters.tflite.toolchain import availability, import_from
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.runtime import Availability, LoadedArtifact, Session


class LiteRTRuntime:
    """LiteRT's interpreter, which hands to XNNPACK what XNNPACK takes; one thread, where no number is asked for."""

    name = "litert-cpu"
    format = "tflite"

    def availability(self) -> Availability:
        return availability("ai-edge-litert")

    def load(self, path: Path) -> LoadedArtifact:
        return self.session(path, threads=1)

    def session(self, path: Path, threads: int) -> Session:
        read_model(path)  # what is no whole model is refused before native code sees it
        litert = import_from("ai-edge-litert", "ai_edge_litert.interpreter")
        try:
            interpreter = litert.Interpreter(str(path), num_threads=threads)
            interpreter.allocate_tensors()
            (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(f"LiteRT cannot load {path}: {error}") from error

        def to_input(pixels: np.ndarray) -> np.ndarray:
            channels_last = np.ascontiguousarray(pixels.transpose(1, 2, 0), dtype=np.float32)  # [3, H, W] -> [H, W, 3]
            return channels_last[None] / np.float32(255)

        def run(given: np.ndarray) -> np.ndarray:
            interpreter.set_tensor(image["index"], given)
            interpreter.invoke()
            scores: np.ndarray = interpreter.get_tensor(logits["index"])
            return scores.reshape(-1)

        return Session(to_input, run)
