"""What converters ask of a graph that torch.export traced, and how they give it constants of their own."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node


def constant(node: Any) -> Tensor:
    """The tensor that a `get_attr` node reads."""
    values: Tensor = attrgetter(str(node.target))(node.graph.owning_module)
    return values


def module_path(node: Node) -> str:
    """Of the module that a call comes from, within the network, such as "stages.2.1.transformer.0.mlp.fc1"."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]).removeprefix("network.") if stack else ""


def new_constant(module: GraphModule, name: str, values: Tensor) -> Node:
    """A node that reads `values`, from now on a buffer of `module`, where nodes are being inserted."""
    module.register_buffer(name, values)
    return module.graph.get_attr(name)


def drop_unused_constants(module: GraphModule) -> None:
    """Forget the constants that the graph does not read: a float tensor whose integers it reads would be exported."""
    read = {str(node.target) for node in module.graph.find_nodes(op="get_attr")}
    for name in {*dict(module.named_parameters()), *dict(module.named_buffers())} - read:
        owner, _, leaf = name.rpartition(".")
        delattr(module.get_submodule(owner), leaf)
