"""Rewrites of an exported graph that change no value, before it is quantized."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

aten = torch.ops.aten


def write_silu_as_product(module: GraphModule) -> None:
    """Replace every SiLU with x * sigmoid(x), as ExecuTorch will: so both can be annotated."""
    for node in module.graph.find_nodes(op="call_function", target=aten.silu.default):
        (x,) = node.args
        with module.graph.inserting_before(node):
            gate = _call(node, aten.sigmoid.default, x)
            _replace(node, _call(node, aten.mul.Tensor, x, gate))
    module.recompile()


def _call(like: Node, target: Any, *args: Any) -> Node:
    """A call that counts as part of the module that `like` came from."""
    call: Node = like.graph.call_function(target, args)
    call.meta = dict(like.meta)
    return call


def _replace(node: Node, other: Node) -> None:
    node.replace_all_uses_with(other)
    node.graph.erase_node(node)
