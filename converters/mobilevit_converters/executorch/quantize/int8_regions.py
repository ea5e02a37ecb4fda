"""Which operators of a graph compute in int8, so chosen that values are rarely converted between int8 and float.

Products with constant weights do. What follows them element by element (activations, gates, sums on the way to the
next product) stays in int8 with them. Sums that feed nothing but norms and further sums, the residual stream of a
transformer, stay float: that costs no crossing more, and the stream keeps what 8 bits would lose of it. Norms, softmax
and products of two activations are float. What only moves values moves them as they are or, where every reader wants
int8, in int8.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from mobilevit_converters.exported_graphs import module_path
from mobilevit_sdk.formats.quantization import QuantizationRecipe

aten = torch.ops.aten

PRODUCTS: dict[Any, str] = {aten.conv2d.default: "convolution", aten.linear.default: "linear"}
ACTIVATIONS = {aten.sigmoid.default, aten.gelu.default, aten.relu.default, aten.hardswish.default}
MERGES: dict[Any, str] = {aten.add.Tensor: "add", aten.mul.Tensor: "multiply", aten.cat.default: "concat"}
POOLS = {aten.mean.dim}
MOVES = {  # XNNPACK wants one scale for what goes in and what comes out
    aten.view.default,
    aten.reshape.default,
    aten.permute.default,
    aten.flatten.using_ints,
    aten.slice.Tensor,
    aten.pad.default,
    aten.max_pool2d.default,
}


def free_calls(module: GraphModule, recipe: QuantizationRecipe) -> list[Node]:
    """The calls of an exported phone graph that may become integers.

    Those outside of norms whose modules the recipe does not keep float; moves change no value and always may.
    """
    calls = [node for node in module.graph.nodes if node.op == "call_function"]
    norms = {module_path(node) for node in calls if node.target == aten.rsqrt.default}
    kept = {path for path in {module_path(node) for node in calls} if path in norms or recipe.keeps_float(path)}
    return [node for node in calls if node.target in MOVES or module_path(node) not in kept]


def integer_nodes(module: GraphModule, recipe: QuantizationRecipe) -> set[Node]:
    """The calls that compute in int8, of an exported phone graph with SiLU written as x * sigmoid(x)."""
    free = free_calls(module, recipe)
    kinds: set[str] = set(recipe.operators)
    wanted = _wanted(free, kinds)
    chosen: set[Node] = set()
    for node in free:
        if _is_integer(node, chosen, wanted, kinds):
            chosen.add(node)
    for node in reversed(free):
        if node.target in MOVES and node.users and chosen.issuperset(node.users):
            chosen.add(node)
    return chosen


def _is_integer(node: Node, chosen: set[Node], wanted: set[Node], kinds: set[str]) -> bool:
    given = chosen.issuperset(activations(node))
    if node.target in PRODUCTS:
        return PRODUCTS[node.target] in kinds and is_product(node)
    if node.target in ACTIVATIONS or is_silu(node):
        return "activation" in kinds and given
    if node.target in MERGES:
        of_activations = len(activations(node)) == len(node.all_input_nodes)
        return MERGES[node.target] in kinds and given and of_activations and node in wanted
    if node.target in POOLS:
        return "pool" in kinds and given
    return node.target in MOVES and given


def _wanted(free: list[Node], kinds: set[str]) -> set[Node]:
    """The calls whose value, behind moves and merges at any distance, a product or an activation reads."""
    takers = {node for node in free if PRODUCTS.get(node.target) in kinds or node.target in ACTIVATIONS | POOLS}
    passing = {node for node in free if node.target in MOVES or node.target in MERGES}
    wanted: set[Node] = set()
    for node in reversed(free):
        if any(user in takers or (user in passing and user in wanted) for user in node.users):
            wanted.add(node)
    return wanted


def is_product(node: Node) -> bool:
    """Whether `node` is a convolution or a linear with constant weights."""
    return node.target in PRODUCTS and len(activations(node)) == 1


def is_silu(node: Node) -> bool:
    """Whether `node` is the product in x * sigmoid(x)."""
    if node.target != aten.mul.Tensor:
        return False
    x, gate = node.args
    return isinstance(gate, Node) and gate.target == aten.sigmoid.default and gate.args[0] is x


def activations(node: Node) -> list[Node]:
    """What a call reads, without constants."""
    return [value for value in node.all_input_nodes if value.op != "get_attr"]
