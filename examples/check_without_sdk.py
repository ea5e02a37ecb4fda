"""Check a .tflite against its reference vectors with LiteRT and safetensors only, as an app's own test would.

    python examples/check_without_sdk.py artifacts/mobilevit_xxs-tflite-fp32

Prints the worst SQNR over the stored cases. The same few lines work on a phone: the vectors travel with the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from safetensors.numpy import load_file


def main(folder: Path) -> float:
    reference = load_file(folder / "reference.safetensors")  # images: uint8 [cases, 3, H, W]; logits: [cases, classes]
    (file,) = folder.glob("*.tflite")
    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    logits = next(output for output in interpreter.get_output_details() if len(output["shape"]) == 2)
    worst = np.inf
    for pixels, expected in zip(reference["images"], reference["logits"], strict=True):
        rgb = pixels.transpose(1, 2, 0)[None].astype(np.float32) / 255  # [1, H, W, 3] in [0, 1]
        interpreter.set_tensor(image["index"], rgb)
        interpreter.invoke()
        error = interpreter.get_tensor(logits["index"])[0] - expected
        worst = min(worst, 10 * np.log10((expected**2).sum() / max((error**2).sum(), 1e-30)))
    print(f"{file.name}: worst SQNR {worst:.1f} dB over {len(reference['images'])} cases")
    return float(worst)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
