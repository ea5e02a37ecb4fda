"""Small networks as .tflite files in integers, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mobilevit_converters.tflite import convert as conversion
from mobilevit_converters.tflite import converter
from mobilevit_converters.tflite.file.flatbuffer import read_model
from mobilevit_converters.tflite.file.operators import operators_of
from mobilevit_converters.tflite.file.schema import builtin_name
from mobilevit_converters.tflite.quantize.quantize import quantize
from torch import nn

from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.models.random_weights import condition_weights, randomize
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.spec import ModelSpec

WHOLE = QuantizationRecipe(ranges="minmax")


@dataclass(frozen=True)
class Images:
    """Smooth random pictures: noise alone says nothing to a convolution."""

    size: tuple[int, int]
    scale: float = 1.0

    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Iterator[np.ndarray]:
        for seed in range(len(self)):
            coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
            picture = nn.functional.interpolate(coarse, self.size, mode="bicubic").clamp(0, 1)
            yield (picture * self.scale).numpy()


@dataclass(frozen=True, eq=False)
class Network:
    spec: ModelSpec
    graph: nn.Module
    content: bytes  # the float model
    images: Images
    whole: dict[str, bytes] = field(default_factory=dict)

    def quantized(self, precision: str) -> bytes:
        """With ranges that take in every value."""
        if precision not in self.whole:
            self.whole[precision] = self.quantized_by(WHOLE, precision)
        return self.whole[precision]

    def quantized_by(self, recipe: QuantizationRecipe, precision: str = "int8", images: Any = None) -> bytes:
        return quantize(self.content, self.graph, precision, Quantization(recipe, images or self.images))


def make(spec: ModelSpec) -> Network:
    images = Images(spec.preprocessing.image_size)
    model = randomize(build_model(spec), 0).eval()
    condition_weights(model, torch.from_numpy(np.concatenate(list(images))))
    graph = deploy(model, converter.target, spec)
    return Network(spec, graph, conversion.float_model([graph], spec), images)


def read(content: bytes) -> Any:
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(content)


def product_ranks(path: Path) -> set[int]:
    """The ranks of what the batched products of a file read and write."""
    model = read_model(path)
    graph = model.Subgraphs(0)
    found = set()
    for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex())
        if builtin_name(code.BuiltinCode(), code.DeprecatedBuiltinCode()) == "BATCH_MATMUL":
            tensors = (*operator.InputsAsNumpy(), *operator.OutputsAsNumpy())
            found |= {graph.Tensors(i).ShapeLength() for i in tensors}
    return found


def answers(content: bytes, images: Images) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (image,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for pixels in images:
        interpreter.set_tensor(image["index"], np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
        interpreter.invoke()
        found.append(interpreter.get_tensor(scores["index"])[0])
    return np.stack(found)


def sqnr_db(network: Network, content: bytes) -> float:
    """Of all answers to the calibration images together, against the float model's."""
    expected = answers(network.content, network.images)
    noise = answers(content, network.images) - expected
    return float(10 * np.log10((expected**2).sum() / (noise**2).sum()))


def dtypes(network: Network, content: bytes) -> dict[str, set[str]]:
    """By kind of operator, the types of what its operators compute, behind the normalization of the image."""
    from ai_edge_litert.schema_py_generated import TensorType

    names = {value: name for name, value in vars(TensorType).items() if not name.startswith("_")}
    model, found = read(content), {}
    for operator in operators_of(model, network.graph):
        if operator.module == "normalization":
            continue
        found.setdefault(operator.code, set()).add(names[model.subgraphs[0].tensors[operator.outputs[0]].type])
    return found
