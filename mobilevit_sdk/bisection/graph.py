"""The phone graph as a list of operators that can be evaluated one by one: what an artifact is compared with."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node

from mobilevit_sdk.bisection.folded import weight_holders
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.quantization.preparation import deploy_smoothed
from mobilevit_sdk.quantization.smoothing import Smoothing
from mobilevit_sdk.spec import ModelSpec


@dataclass(frozen=True)
class Step:
    """An operator of the graph: ATen's name, and the path of its module in the phone graph.

    `module` is the innermost module of the reference model that contains it, and `block` the block of that module.
    """

    node: Node
    operator: str
    path: str
    module: str
    block: str

    @property
    def place(self) -> str:
        return self.path or "the network itself"


class TracedGraph:
    """A model deployed for a target and exported in float64, where rounding is far below that of any artifact.

    `smoothing` is that of an integer file. `steps` are in the order of execution. `answers` are the nodes of the
    outputs, and `followed` is the number of the one for which `bisection.costs` says what an error costs.
    """

    followed = 0

    def __init__(self, model: nn.Module, target: str, spec: ModelSpec, smoothing: Smoothing | None = None) -> None:
        network = copy.deepcopy(model).double()
        if smoothing is None:
            graph = deploy(network, target, spec)
        else:
            graph = deploy_smoothed(network, target, spec, smoothing)
        image = torch.zeros(1, 3, *spec.preprocessing.image_size, dtype=torch.float64)
        program = torch.export.export(graph, (image,))
        signature = program.graph_signature
        held = {**program.state_dict, **program.constants}
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        nodes = list(program.graph.nodes)
        self.constants = {
            node: held[names[node.name]] for node in nodes if node.op == "placeholder" and node.name in names
        }
        (self.image,) = (node for node in nodes if node.op == "placeholder" and node not in self.constants)
        (answers,) = next(node for node in nodes if node.op == "output").args
        self.answers: tuple[Node, ...] = tuple(answers)
        self.outputs = spec.outputs
        modules = dict(model.named_modules())
        self.holders = weight_holders(model)
        self.steps = [_step(node, modules) for node in nodes if node.op == "call_function"]
        self.uses = Counter(given for step in self.steps for given in step.node.all_input_nodes)
        self.uses.update(self.answers)


def evaluate(node: Node, values: Mapping[Node, Any]) -> Any:
    """The result of an operator, with its operands from `values`."""
    take = torch.fx.node.map_arg
    return node.target(*take(node.args, values.__getitem__), **take(node.kwargs, values.__getitem__))  # type: ignore[operator]


def unit_image(image: np.ndarray) -> Tensor:
    """A case's image as the graph takes it: uint8 [3, H, W] -> float64 [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float64))[None] / 255


def is_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def block_of(path: str, modules: Mapping[str, nn.Module]) -> str:
    """The block that a module belongs to: the element of the innermost nn.Sequential around it, or, outside of any,
    the model's own child. "" is the model's own arithmetic.
    """
    parts = path.split(".")
    for depth in range(len(parts), 0, -1):
        if isinstance(modules.get(".".join(parts[: depth - 1])), nn.Sequential) and parts[depth - 1].isdigit():
            return ".".join(parts[:depth])
    return parts[0]


def _step(node: Node, modules: Mapping[str, nn.Module]) -> Step:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    within = path.removeprefix("network").removeprefix(".")  # the rest is PhoneGraph's own: the normalization
    parts = within.split(".")
    module = next((m for m in (".".join(parts[:n]) for n in range(len(parts), 0, -1)) if m in modules), "")
    return Step(
        node, str(node.target).removeprefix("aten.").partition(".")[0], within, module, block_of(module, modules)
    )
