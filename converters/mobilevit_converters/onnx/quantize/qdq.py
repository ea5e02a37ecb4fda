"""A float model with QuantizeLinear and DequantizeLinear around its products: the form that every ONNX runtime fuses.

In int8, convolutions and linears read 8 bits without a sign (onnxruntime's kernels for x86 want that), multiply by 8
bits a weight with a scale for each output channel, and add up in 32. A convolution also writes 8 bits, having no other
kernel. A linear writes floating point, and so does the last product, whose answer only the caller reads. In
int8-weight, weights alone have 8 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mobilevit_converters.onnx.quantize.ranges import Range, find_ranges
from mobilevit_converters.onnx.toolchain import import_from
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe

PRODUCTS = {"Conv": "convolution", "Gemm": "linear"}
MIN_CONSTANT = 4096  # elements from which on a constant that is added, such as a position bias, is stored in 8 bits
MAX_BIAS = 2**30  # in steps, of 32 bits; what is added to it needs room too
MIN_SCALE = 1e-7


def quantize(model: Any, precision: str, quantization: Quantization) -> None:
    """Write `model`, an `onnx.ModelProto` whose operators are named by modules, in an integer precision, in place."""
    _Quantizer(model, quantization.recipe, precision == "int8").run(quantization)


def module_of(node: Any) -> str:
    """The module that an operator comes from: "stem.conv" of "stem.conv/Conv_2"."""
    return str(node.name).rpartition("/")[0]


class _Quantizer:
    def __init__(self, model: Any, recipe: QuantizationRecipe, static: bool) -> None:
        self.helper = import_from("onnx", "onnx.helper")
        self.numpy_helper = import_from("onnx", "onnx.numpy_helper")
        self.model, self.graph, self.recipe, self.static = model, model.graph, recipe, static
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.nodes: list[Any] = []
        self.ready: dict[str, str] = {}  # what stands for a value once it went through 8 bits
        self.ranges: dict[str, Range] = {}

    def run(self, quantization: Quantization) -> None:
        products = [node for node in self.graph.node if self._is_product(node)]
        outputs = {value.name for value in self.graph.output}
        last = {id(node) for node in products if node.output[0] in outputs}
        static = [node for node in products if id(node) not in last and PRODUCTS[node.op_type] in self.recipe.operators]
        self.written = {node.output[0]: self._written(node) for node in static if node.op_type == "Conv"}
        if self.static:
            names = dict.fromkeys([node.input[0] for node in static] + list(self.written.values()))
            self.ranges = find_ranges(self.model, list(names), quantization)
        chosen, weighted = ({id(node) for node in static} if self.static else set()), {id(node) for node in products}
        ends = set(self.written.values()) if self.static else set()
        for node in list(self.graph.node):
            if id(node) in weighted:
                self._product(node, id(node) in chosen)
            elif node.op_type == "Add":
                node.input[:] = [self._constant(name, node) for name in node.input]
            self.nodes.append(node)
            for name in node.output:
                if name in ends:
                    self._requantize(name)
        for node in self.nodes:
            if node.op_type != "QuantizeLinear":
                node.input[:] = [self.ready.get(name, name) if name in ends else name for name in node.input]
        self._finish()

    def _is_product(self, node: Any) -> bool:
        """Whether a convolution or linear has weights to store in 8 bits: the means of norms are products, too."""
        if node.op_type not in PRODUCTS or node.input[1] not in self.constants:
            return False
        weight = self.numpy_helper.to_array(self.constants[node.input[1]])
        is_mean = 1 in weight.shape[:2] and bool((weight == weight.flat[0]).all())  # a row, or a column of a MatMul
        return not is_mean and not self.recipe.keeps_float(module_of(node))

    def _written(self, node: Any) -> str:
        """The value that a convolution writes in 8 bits: a ReLU that is all that follows is the end of its range."""
        readers = [reader for reader in self.graph.node if node.output[0] in reader.input]
        is_relu = len(readers) == 1 and readers[0].op_type == "Relu"
        return str(readers[0].output[0] if is_relu else node.output[0])

    def _product(self, node: Any, static: bool) -> None:
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        axis = 0 if node.op_type == "Conv" or transposed else 1
        weight = self.numpy_helper.to_array(self.constants[node.input[1]])
        others = tuple(each for each in range(weight.ndim) if each != axis)
        scale = np.maximum(np.abs(weight).max(others) / 127, MIN_SCALE)
        given = node.input[0]
        if static:
            step = self._scale(self.ranges[given])[0]
            if len(node.input) > 2:
                bias = self.numpy_helper.to_array(self.constants[node.input[2]]).astype(np.float64)
                scale = np.maximum(scale, np.abs(bias) / (MAX_BIAS * step))
                integers = np.round(bias / (step * scale)).astype(np.int32)
                name = self._dequantized(node.input[2], node, integers, (step * scale).astype(np.float32), 0)
                node.input[2] = name
            node.input[0] = self._requantize(given)
        shape = [-1 if each == axis else 1 for each in range(weight.ndim)]
        integers = np.clip(np.round(weight / scale.reshape(shape)), -127, 127).astype(np.int8)
        node.input[1] = self._dequantized(node.input[1], node, integers, scale.astype(np.float32), axis)

    def _constant(self, name: str, node: Any) -> str:
        """A large constant in 8 bits; others as they are."""
        found = self.constants.get(name)
        if found is None or np.prod(found.dims) < MIN_CONSTANT or self.recipe.keeps_float(module_of(node)):
            return name
        values = self.numpy_helper.to_array(found)
        scale, zero = self._scale((min(float(values.min()), 0.0), max(float(values.max()), 0.0)))
        integers = np.clip(np.round(values / scale) + zero, 0, 255).astype(np.uint8)
        return self._dequantized(name, node, integers, np.float32(scale), None, zero)

    @staticmethod
    def _scale(low_high: Range) -> tuple[float, int]:
        """The step of 256 levels, and the one that is zero. onnxruntime fuses nothing without written zeros."""
        low, high = low_high
        scale = max((high - low) / 255, MIN_SCALE)
        return float(np.float32(scale)), int(np.clip(round(-low / scale), 0, 255))

    def _requantize(self, value: str) -> str:
        """The value after a round through 8 bits, once for all that read it."""
        if value not in self.ready:
            scale, zero = self._scale(self.ranges[value])
            ends = [self._store(f"{value}_scale", np.float32(scale)), self._store(f"{value}_zero", np.uint8(zero))]
            name = self.ready[value] = f"{value}_dequantized"
            self._add("QuantizeLinear", [value, *ends], f"{value}_quantized", value)
            self._add("DequantizeLinear", [f"{value}_quantized", *ends], name, value)
        return self.ready[value]

    def _dequantized(
        self, name: str, node: Any, integers: np.ndarray, scale: Any, axis: int | None, zero: int = 0
    ) -> str:
        """A constant in integers, and the operator that reads it as numbers; `node` alone may read it."""
        base = f"{node.output[0]}.{name}" if f"{name}_integers" in self.constants else name
        zeros = np.full(np.shape(scale), zero, integers.dtype)
        parts = {"integers": integers, "scale": scale, "zero": zeros}
        inputs = [self._store(f"{base}_{part}", values) for part, values in parts.items()]
        self._add("DequantizeLinear", inputs, f"{base}_dequantized", base, **({} if axis is None else {"axis": axis}))
        return f"{base}_dequantized"

    def _add(self, kind: str, inputs: list[str], output: str, about: str, **attributes: int) -> None:
        self.nodes.append(self.helper.make_node(kind, inputs, [output], name=f"{about}/{kind}", **attributes))

    def _store(self, name: str, values: Any) -> str:
        if name not in self.constants:
            self.constants[name] = self.numpy_helper.from_array(np.asarray(values), name)
        return name

    def _finish(self) -> None:
        read = {name for node in self.nodes for name in node.input}
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        del self.graph.initializer[:]
        self.graph.initializer.extend(tensor for name, tensor in self.constants.items() if name in read)
