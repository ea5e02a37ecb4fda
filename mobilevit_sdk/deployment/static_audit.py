"""The static audit: what a target would not take whole, found in the exported graph before any converter runs."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.fx import Node

from mobilevit_sdk.deployment.phone_graph import exported
from mobilevit_sdk.deployment.targets import Target, find_target


@dataclass(frozen=True)
class Finding:
    """One operator that a target leaves outside its delegate, or refuses."""

    operator: str  # ATen's name, such as "select.int"
    shape: tuple[int, ...]  # of its result
    module: str  # path of the module that it came from, "" for the graph itself
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} {list(self.shape)} in {self.module or 'the graph'}: {self.reason}"


def audit(graph: nn.Module, target: str, image_size: tuple[int, int]) -> list[Finding]:
    """Every operator of `graph` that `target` does not take whole; empty for a graph that runs in one delegate.

    `graph` takes an image [1, 3, H, W] with (H, W) = `image_size`. Raises RequestError for an unknown target, and what
    torch.export raises for a module that it cannot export.
    """
    chosen = find_target(target)
    return [
        Finding(_name(node), tuple(value.shape), _module(node), reason)
        for node in exported(graph, image_size).graph.nodes
        if node.op == "call_function" and node.target is not operator.getitem
        if isinstance(value := _first(node.meta.get("val")), Tensor)
        if (reason := _reason(node, value, chosen)) is not None
    ]


def _first(value: object) -> object:
    """What a node computes; the first part of it where it answers with several, which `getitem` picks from."""
    return value[0] if isinstance(value, (list, tuple)) and value else value


def _reason(node: Node, value: Tensor, target: Target) -> str | None:
    name = _name(node)
    if name not in target.operators:
        return f"{target.name} does not take this operator"
    highest = max(
        [
            value.dim(),
            *(
                argument.meta["val"].dim()
                for argument in node.all_input_nodes
                if isinstance(argument.meta.get("val"), Tensor)
            ),
        ]
    )
    if highest > target.max_rank:
        return f"rank {highest}, {target.name} takes {target.max_rank}"
    return target.operators[name](node)


def _name(node: Node) -> str:
    return str(node.target).removeprefix("aten.")


def _module(node: Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""
