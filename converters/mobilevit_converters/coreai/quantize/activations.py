"""8-bit activations: pairs of `quantize` and `dequantize` in the exported graph, with ranges from the images.

The pattern is that of our Core ML files, which is what Apple's own tools write for the Neural Engine: a pair before and
after each convolution, linear layer, sum and pool, an activation function that follows counting as part of it.
coreai-opt 0.4.0 does the same by default, and makes integers of attention's products too: it loses more for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from mobilevit_converters.exported_graphs import module_path, new_constant
from mobilevit_converters.quantization.integers import affine
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.formats.ranges import RangeEstimator

aten = torch.ops.aten

INTEGER: dict[Any, str] = {
    aten.conv2d.default: "convolution",
    aten.linear.default: "linear",
    aten.add.Tensor: "add",
    aten.avg_pool2d.default: "pool",
    aten.max_pool2d.default: "pool",
}
ACTIVATIONS = {
    aten.relu.default,
    aten.relu6.default,
    aten.silu.default,
    aten.gelu.default,
    aten.sigmoid.default,
    aten.hardsigmoid.default,
    aten.hardswish.default,
    aten.tanh.default,
}
# Their outputs are values of their inputs: where both are integers, they are the same integers.
MOVES = {
    aten.cat.default,
    aten.flatten.using_ints,
    aten.max_pool2d.default,
    aten.permute.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten.reshape.default,
    aten.slice.Tensor,
    aten.squeeze.dim,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
}
# An answer that was only moved is not rounded: close classes would become equal.
BEHIND_THE_ANSWER = {aten.reshape.default, aten.view.default, aten.flatten.using_ints, aten.permute.default}


def quantize_activations(module: GraphModule, quantization: Quantization) -> None:
    """Make the integer operators of `module` read and return values rounded to int8. Raises ValueError."""
    readers = integer_tensors(module, quantization.recipe)
    parameters = _parameters_of(module, list(readers), quantization)
    order = {node: index for index, node in enumerate(module.graph.nodes)}
    coreai = torch.ops.coreai
    for value, nodes in readers.items():
        scale, zero_point = parameters[value]
        with module.graph.inserting_before(min(nodes, key=order.__getitem__)):
            by = new_constant(module, f"{value.name}_scale", scale)
            zero = new_constant(module, f"{value.name}_zero_point", zero_point)
            integers = module.graph.call_function(coreai.quantize.default, (value, by, torch.int8, zero))
            values = module.graph.call_function(coreai.dequantize.default, (integers, by, zero))
        for node in nodes:
            node.replace_input_with(value, values)


def integer_tensors(module: GraphModule, recipe: QuantizationRecipe) -> dict[Node, list[Node]]:
    """The values that become integers, each with the operators that read it as such.

    The result of an integer operator is read as integers by all; any other result, by integer operators only.
    """
    answers = _answers(module)
    produced: set[Node] = set()
    read: dict[Node, list[Node]] = {}
    for node in module.graph.nodes:
        inputs = _factors(node)
        if node.target not in INTEGER or not _free(node, INTEGER[node.target], recipe) or not inputs:
            continue
        for value in inputs:
            read.setdefault(value, []).append(node)
        result = node
        if len(node.users) == 1:
            (after,) = node.users
            if after.target in ACTIVATIONS and _free(after, "activation", recipe):
                result = after
        if result not in answers:
            produced.add(result)
    return {
        value: list(dict.fromkeys(value.users if value in produced else read[value]))
        for value in module.graph.nodes
        if value in produced or value in read
    }


def _factors(node: Node) -> list[Node]:
    """The values that an operator computes from; none where it adds a constant, as norms do."""
    operands = node.args[:2] if node.target == aten.add.Tensor else node.args[:1]
    values = [value for value in operands if isinstance(value, Node) and value.op != "get_attr"]
    return values if len(values) == len(operands) else []


def _free(node: Node, kind: str, recipe: QuantizationRecipe) -> bool:
    return kind in recipe.operators and not recipe.keeps_float(module_path(node))


def _answers(module: GraphModule) -> set[Node]:
    found: set[Node] = set()
    pending = list(module.graph.output_node().all_input_nodes)
    while pending:
        node = pending.pop()
        found.add(node)
        if node.target in BEHIND_THE_ANSWER:
            pending += node.all_input_nodes
    return found


class _Observer(Interpreter):
    """Runs a graph, and shows some of its values to their estimators."""

    def __init__(self, module: GraphModule, estimators: dict[Node, RangeEstimator]) -> None:
        super().__init__(module)
        self._estimators = estimators

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n in self._estimators:
            self._estimators[n].observe(value.numpy())
        return value


def _parameters_of(
    module: GraphModule, values: list[Node], quantization: Quantization
) -> dict[Node, tuple[Tensor, Tensor]]:
    """Scale and zero point of each value; those between which values only move share them."""
    estimators = {value: RangeEstimator(quantization.recipe) for value in values}
    observer = _Observer(module, estimators)
    with torch.no_grad():
        for image in quantization.images:
            observer.run(torch.from_numpy(image))
    leaders = _leaders(module)
    ranges: dict[Node, tuple[float, float]] = {}
    for value in values:
        low, high = estimators[value].range()
        lowest, highest = ranges.get(leaders[value], (low, high))
        ranges[leaders[value]] = (min(low, lowest), max(high, highest))
    found = {value: affine(*ranges[leaders[value]]) for value in values}
    return {
        value: (torch.tensor(float(scale)), torch.tensor(int(zero), dtype=torch.int8))
        for value, (scale, zero) in found.items()
    }


def _leaders(module: GraphModule) -> dict[Node, Node]:
    """For each value, the one that represents all values that it is moved from or to."""
    above: dict[Node, Node] = {}

    def leader(node: Node) -> Node:
        while above.setdefault(node, node) is not node:
            node = above[node]
        return node

    for node in module.graph.nodes:
        own = leader(node)
        if node.target in MOVES:
            for source in node.all_input_nodes:
                above[leader(source)] = own
    return {node: leader(node) for node in module.graph.nodes}
