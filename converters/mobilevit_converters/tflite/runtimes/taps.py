"""Every value of a .tflite file as an output, so that LiteRT computes them as it would, XNNPACK included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_converters.tflite.file.associated_files import read_spec
from mobilevit_converters.tflite.file.entries import entries_of, entry_at
from mobilevit_converters.tflite.file.flatbuffer import read_model
from mobilevit_converters.tflite.file.schema import keep_signature, operator_name, parse, serialize, tensor_types
from mobilevit_converters.tflite.passes.interface import Interface
from mobilevit_converters.tflite.toolchain import import_from
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import Size
from mobilevit_sdk.formats.taps import Tap, TappedArtifact

REAL = ("FLOAT32", "FLOAT16", "INT8", "UINT8", "INT16")  # types of activations


def tap(path: Path, kernels: str, image_size: Size = None) -> TappedArtifact:
    """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`; `kernels` is a name in LiteRT's OpResolverType."""
    table = read_model(path)  # an incomplete model is refused before native code sees it
    entries = entries_of(path, table, read_spec(path, required=False))
    litert = import_from("ai-edge-litert", "ai_edge_litert.interpreter")
    model = parse(path.read_bytes())
    if len(entries) > 1:
        keep_signature(model, entry_at(path, entries, image_size).name)
    taps = _expose(model)
    content = serialize(model)
    try:
        interpreter = litert.Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=getattr(litert.OpResolverType, kernels),
        )
        interpreter.allocate_tensors()
        (image,) = interpreter.get_input_details()
        outputs = interpreter.get_output_details()
        _, height, width, _ = image["shape"].tolist()
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"LiteRT cannot load {path}: {error}") from error
    interface = Interface(path.name, height, width)

    def values(pixels: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(image["index"], interface.to_input(pixels))
        interpreter.invoke()
        return [_real(interpreter.get_tensor(output["index"]), output["quantization"]) for output in outputs]

    return TappedArtifact(taps, values)


def _expose(model: Any) -> tuple[Tap, ...]:
    """Turn all real values that operators compute into outputs, in place and in the order of execution."""
    graph = model.subgraphs[0]
    taps: dict[int, Tap] = {}
    for operator in graph.operators:
        for index in operator.outputs:
            tensor = graph.tensors[index]
            if tensor_types()[tensor.type] in REAL:
                taps[index] = Tap(
                    operator_name(model, operator), tensor.name.decode(), tuple(int(size) for size in tensor.shape)
                )
    graph.outputs = list(taps)
    model.signatureDefs = []
    return tuple(taps.values())


def _real(value: np.ndarray, quantization: tuple[float, int]) -> np.ndarray:
    scale, zero_point = quantization
    real = value.astype(np.float32)
    return (real - zero_point) * np.float32(scale) if scale else real
