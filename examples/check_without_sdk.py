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


def worst_sqnr_db(expected: np.ndarray, found: np.ndarray) -> float:
    """Of scores [cases, classes], as the SDK's gate takes it for three classes or more: the lower of two.

    One is that of the scores as they are. The other leaves out what all classes share, because it decides nothing;
    there the signal of a case is at least the median, because classes may come near each other on one image.
    """
    error = found - expected
    whole = (expected**2).sum(1), (error**2).sum(1)
    signal, noise = (((each - each.mean(1, keepdims=True)) ** 2).sum(1) for each in (expected, error))
    ratios = [whole[0] / np.maximum(whole[1], 1e-30), np.maximum(signal, np.median(signal)) / np.maximum(noise, 1e-30)]
    return float(10 * np.log10(np.min(ratios)))


def main(folder: Path) -> float:
    reference = load_file(folder / "reference.safetensors")  # images: uint8 [cases, 3, H, W]; logits: [cases, classes]
    (file,) = folder.glob("*.tflite")
    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    logits = next(output for output in interpreter.get_output_details() if len(output["shape"]) == 2)
    answers = []
    for pixels in reference["images"]:
        rgb = pixels.transpose(1, 2, 0)[None].astype(np.float32) / 255  # [1, H, W, 3] in [0, 1]
        interpreter.set_tensor(image["index"], rgb)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(logits["index"])[0])
    worst = worst_sqnr_db(reference["logits"], np.stack(answers))
    print(f"{file.name}: worst SQNR {worst:.1f} dB over {len(reference['images'])} cases")
    return worst


if __name__ == "__main__":
    main(Path(sys.argv[1]))
