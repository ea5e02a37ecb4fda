"""What both sides' files answer, and how this machine's runtimes take them: the same code for both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.errors import MobileViTError
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.formats.runtime import Session
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.models.registry import model_spec
from mobilevit_sdk.parity.metrics import sqnr_db
from mobilevit_sdk.processes.child import run_in_child

RUNTIMES = {"onnx": "onnxruntime", "executorch": "executorch", "coreml": "coreml-reference"}


def look_at(file: Path, model: str, format_name: str, checkpoint: Path) -> dict[str, Any]:
    """Size, agreement with timm, delegates, and LiteRT's GPU."""
    size = sum(each.stat().st_size for each in file.rglob("*")) if file.is_dir() else file.stat().st_size
    found: dict[str, Any] = {"bytes": size}
    expected = np.stack(run_in_child(reference, model, checkpoint))
    opened = partial(open_session, format_name, file)
    with contextlib.suppress(MobileViTError):  # a file that no runtime here takes has no answers
        found["sqnr_db"] = worst(expected, run_in_child(answers, opened, model))
    if format_name in ("tflite", "executorch"):
        inspected = find_converter(format_name).inspect(file)
        outside = inspected.undelegated_ops
        found |= {"delegates": inspected.delegates, "outside": sum(outside.values()) if outside is not None else None}
    if format_name == "tflite":
        found["hazards"] = sum((inspected.hazards or {}).values())
        try:
            found["gpu"] = worst(expected, run_in_child(gpu_answers, file, model, timeout=300.0))
        except MobileViTError as error:
            found["gpu"] = " ".join(str(error).split())[:200]
    return found


def worst(expected: np.ndarray, found: np.ndarray) -> float:
    """Of the photographs that were answered, in dB."""
    return round(min(sqnr_db(one, other) for one, other in zip(expected, found, strict=False)), 1)


def photographs_of(model: str) -> list[np.ndarray]:
    """RGB uint8 [3, H, W]."""
    return [case.image for case in builtin_cases(model_spec(model).preprocessing) if case.role == "view"]


def reference(model: str, checkpoint: Path) -> np.ndarray:
    """In a child process: timm's own answers in float32, [photographs, classes]."""
    import timm
    import torch

    network = timm.create_model(model, checkpoint_path=str(checkpoint)).eval()
    mean, std = (torch.tensor(network.pretrained_cfg[each]).view(1, 3, 1, 1) for each in ("mean", "std"))
    pixels = torch.from_numpy(np.stack(photographs_of(model))).float() / 255
    with torch.no_grad():
        answer: np.ndarray = network((pixels - mean) / std).numpy()
    return answer


def answers(opened: Callable[[int], Session], model: str) -> np.ndarray:
    """In a child process: the file's answers."""
    session = opened(1)
    return np.stack([np.array(session.run(session.to_input(image))) for image in photographs_of(model)])


def gpu_answers(file: Path, model: str) -> np.ndarray:
    """In a child process: three answers of LiteRT's GPU accelerator, which is to leave nothing to the CPU."""
    answer = RuntimeRef("tflite", None, "litert-gpu", file).load()
    return np.stack([answer(image) for image in photographs_of(model)[:3]])


def open_session(format_name: str, file: Path, threads: int) -> Session:
    """Any side's file, in the same runtime and with the same code."""
    if format_name == "tflite":
        return open_tflite(file, threads)
    if format_name == "coreml":
        answer = RuntimeRef("coreml", None, RUNTIMES["coreml"], named_logits(file)).load()
        return Session(lambda image: image, answer)
    backend = "xnnpack" if format_name == "executorch" else None
    return RuntimeRef(format_name, backend, RUNTIMES[format_name], file).session(threads)


def open_tflite(file: Path, threads: int) -> Session:
    """LiteRT with XNNPACK; a file that takes integers is given them, and its integers are read as numbers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=threads)
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def to_input(image: np.ndarray) -> np.ndarray:
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0), np.float32)[None] / np.float32(255)
        if given["dtype"] is np.int8:
            scale, zero = given["quantization"]
            return np.clip(np.round(pixels / scale + zero), -128, 127).astype(np.int8)
        return pixels

    def run(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], pixels)
        interpreter.invoke()
        scores = interpreter.get_tensor(answer["index"])[0]
        if answer["dtype"] is np.int8:
            scale, zero = answer["quantization"]
            return (scores.astype(np.float32) - zero) * np.float32(scale)
        return scores

    return Session(to_input, run)


def named_logits(file: Path) -> Path:
    """The package; where its output has another name than our reader of Core ML programs knows, a renamed copy."""
    import coremltools

    model = coremltools.models.MLModel(str(file), skip_model_load=True)
    spec = model.get_spec()
    if any(output.name == "logits" for output in spec.description.output):
        return file
    coremltools.utils.rename_feature(spec, "output", "logits")
    copy = file.with_name(f"renamed-{file.name}")
    coremltools.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True).save(str(copy))
    return copy
