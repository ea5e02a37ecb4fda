"""Every value of a .onnx file as an output, so that onnxruntime computes them as it would."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobilevit_converters.onnx.file.model import read_interface, read_model, shape_of
from mobilevit_converters.onnx.runtimes.session import open_session
from mobilevit_converters.onnx.toolchain import import_from
from mobilevit_sdk.formats.taps import Tap, TappedArtifact


def tap(path: Path) -> TappedArtifact:
    """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`."""
    model = read_model(path)
    interface = read_interface(path, model)
    types = import_from("onnx", "onnx").TensorProto
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    real = (types.FLOAT, types.FLOAT16)
    found = [
        (node, known[name])
        for node in model.graph.node
        for name in node.output
        if name in known and known[name].type.tensor_type.elem_type in real
    ]
    values_of = [value for _, value in found]
    taps = tuple(Tap(node.op_type, node.name or value.name, shape_of(value)) for node, value in found)
    del model.graph.output[:]
    model.graph.output.extend(values_of)
    session = open_session(path, model.SerializeToString(), threads=1)

    def values(pixels: np.ndarray) -> list[np.ndarray]:
        answers = session.run([value.name for value in values_of], {interface.image: interface.to_input(pixels)})
        return [answer.astype(np.float32) for answer in answers]

    return TappedArtifact(taps, values)
