"""A recipe as the annotations that PT2E takes, with observers that find ranges as every format of this SDK does."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.observer import ObserverBase
from torchao.quantization.pt2e.quantizer import (
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    Quantizer,
    SharedQuantizationSpec,
)

from mobilevit_converters.executorch.passes.graph_rewrites import write_silu_as_product
from mobilevit_converters.executorch.quantize.groups import in_groups
from mobilevit_converters.executorch.quantize.int8_regions import (
    MOVES,
    activations,
    aten,
    free_calls,
    integer_nodes,
    is_product,
)
from mobilevit_converters.exported_graphs import constant
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.formats.ranges import RangeEstimator

ANNOTATION = "quantization_annotation"
MIN_INT8_CONSTANT = 4096  # elements from which on a constant that float operators read is stored in int8
MIN_RANGE = 1e-5  # a value that never differs from zero has any scale; XNNPACK takes none that is next to nothing


def _int8(scale: float) -> FixedQParamsQuantizationSpec:
    return FixedQParamsQuantizationSpec(torch.int8, scale, -128, -128, 127, torch.per_tensor_affine)


IMAGE = _int8(1 / 255)  # 8-bit pixels as they are
SIGMOID = _int8(1 / 256)  # the only scale that XNNPACK takes for it


class RangeObserver(ObserverBase):  # type: ignore[misc]
    """A static range over everything that it sees; int8, asymmetric."""

    def __init__(self, recipe: QuantizationRecipe, **spec: Any) -> None:
        super().__init__(spec["dtype"])
        self.quant_min, self.quant_max, self.qscheme = spec["quant_min"], spec["quant_max"], spec["qscheme"]
        self.estimator = RangeEstimator(recipe)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.estimator.observe(values.detach().numpy())
        return values

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        low, high = self.estimator.range()
        scale = max(high - low, MIN_RANGE) / 255
        return torch.tensor([scale]), torch.tensor([min(round(-128 - low / scale), 127)])


class WeightPerChannelObserver(ObserverBase):  # type: ignore[misc]
    """The largest magnitude of each output channel; symmetric. PT2E knows it by the `PerChannel` in its name."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(spec["dtype"])
        self.quant_min, self.quant_max, self.qscheme = spec["quant_min"], spec["quant_max"], spec["qscheme"]
        self.ch_axis = spec["ch_axis"]
        self.largest = torch.zeros(())

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        self.largest = weight.detach().flatten(1).abs().amax(1)
        return weight

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        scale = self.largest.clamp(min=MIN_RANGE) / self.quant_max
        return scale, torch.zeros_like(scale, dtype=torch.int64)


class DynamicObserver(ObserverBase):  # type: ignore[misc]
    """Stands where the runtime finds the range itself, of each row of a linear and each input of a convolution."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(spec["dtype"], is_dynamic=True)
        self.quant_min, self.quant_max, self.qscheme = spec["quant_min"], spec["quant_max"], spec["qscheme"]
        self.eps = 2**-12

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError


class RecipeQuantizer(Quantizer):  # type: ignore[misc]
    """Annotates an exported phone graph for int8, int8-dynamic or int4-weight."""

    def __init__(self, recipe: QuantizationRecipe, precision: str) -> None:
        self.recipe, self.static, self.in_4_bits = recipe, precision == "int8", precision == "int4-weight"
        per_tensor = (-128, 127, torch.per_tensor_affine)
        minmax = QuantizationRecipe(ranges="minmax")
        self.activation = QuantizationSpec(torch.int8, RangeObserver.with_args(recipe=recipe), *per_tensor)
        self.constant = QuantizationSpec(torch.int8, RangeObserver.with_args(recipe=minmax), *per_tensor)
        self.dynamic = QuantizationSpec(torch.int8, DynamicObserver, *per_tensor, is_dynamic=True)
        per_channel = {"qscheme": torch.per_channel_symmetric, "ch_axis": 0}
        self.weight = QuantizationSpec(torch.int8, WeightPerChannelObserver, -127, 127, **per_channel)
        self.weight_in_4_bits = QuantizationSpec(torch.int8, WeightPerChannelObserver, -8, 7, **per_channel)

    def transform_for_annotation(self, module: GraphModule) -> GraphModule:
        write_silu_as_product(module)
        return module

    def annotate(self, module: GraphModule) -> GraphModule:
        integers = integer_nodes(module, self.recipe)
        for node in free_calls(module, self.recipe):
            is_last = all(user.op == "output" for user in node.users)
            if node in integers and is_product(node) and (is_last or not self.static):
                self._annotate_dynamic(node)
            elif node in integers and self.static:
                self._annotate_static(node, integers)
            else:
                self._annotate_constants(node)
        return module

    def validate(self, module: GraphModule) -> None:
        """Nothing to refuse: what XNNPACK does not take was not annotated."""

    def _annotate_dynamic(self, node: Node) -> None:
        x, weight = _operands(node)
        if is_depthwise(node):
            return
        inputs = {x: self.dynamic, weight: self.weight}
        if self.in_4_bits and node.target == aten.linear.default:
            inputs[weight] = self.weight_in_4_bits
            if in_groups(constant(weight), self.recipe.group_size):
                del inputs[weight]  # PT2E has no such weights: they follow when it is done
        node.meta[ANNOTATION] = QuantizationAnnotation(inputs, _annotated=True)

    def _annotate_static(self, node: Node, integers: set[Node]) -> None:
        inputs = {value: self._input_spec(value) for value in activations(node)}
        output: QuantizationSpecBase | None = self.activation
        if is_product(node):
            inputs[_operands(node)[1]] = self.weight
        if _ends_in_relu(node, integers):
            output = None
        elif node.target == aten.relu.default and _ends_in_relu(activations(node)[0], integers):
            inputs = {}
        elif node.target == aten.sigmoid.default:
            output = SIGMOID
        elif node.target in MOVES or node.target == aten.cat.default:
            first, *others = inputs
            output = SharedQuantizationSpec((first, node))
            inputs |= dict.fromkeys(others, output)
        node.meta[ANNOTATION] = QuantizationAnnotation(inputs, output, _annotated=True)

    def _input_spec(self, value: Node) -> QuantizationSpecBase:
        if value.op == "placeholder":
            return IMAGE
        return SIGMOID if value.target == aten.sigmoid.default else self.activation

    def _annotate_constants(self, node: Node) -> None:
        large = [
            value
            for value in node.all_input_nodes
            if value.op == "get_attr" and constant(value).numel() >= MIN_INT8_CONSTANT
        ]
        if large and node.target in (aten.add.Tensor, aten.mul.Tensor):
            node.meta[ANNOTATION] = QuantizationAnnotation(dict.fromkeys(large, self.constant), _annotated=True)


def _operands(product: Node) -> list[Node]:
    """What a product multiplies: a value and constant weights."""
    return [value for value in product.args[:2] if isinstance(value, Node)]


def _ends_in_relu(node: Node, integers: set[Node]) -> bool:
    """Whether a product or sum is followed by a ReLU alone, which becomes the lower end of its output's range.

    XNNPACK takes a ReLU of its own in int8 only where its input and output have one scale.
    """
    users = list(node.users)
    fuses = is_product(node) or node.target == aten.add.Tensor
    return fuses and len(users) == 1 and users[0] in integers and users[0].target == aten.relu.default


def is_depthwise(node: Node) -> bool:
    """Whether `node` is a convolution that reads one channel for each of its outputs."""
    return bool(node.target == aten.conv2d.default and constant(node.args[1]).shape[1] == 1)
