"""The operators of a .tflite graph: what they compute, and which module of the network they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from mobilevit_converters.tflite.file.schema import is_constant, operator_name, tensor_types
from mobilevit_sdk.deployment.cascaded_attention import ExplicitCascadedAttention, ExplicitHead
from mobilevit_sdk.deployment.decomposed_layer_norm import DecomposedLayerNorm
from mobilevit_sdk.deployment.explicit_attention import ExplicitAttention
from mobilevit_sdk.deployment.global_norm import GlobalNorm, MatmulGlobalNorm
from mobilevit_sdk.deployment.separable_attention_nchw import NCHWSeparableAttention

NORMS = (nn.LayerNorm, nn.GroupNorm, DecomposedLayerNorm, GlobalNorm, MatmulGlobalNorm)
ATTENTION = (ExplicitAttention, ExplicitCascadedAttention, ExplicitHead, NCHWSeparableAttention)
ACTIVATIONS = (nn.SiLU, nn.GELU, nn.ReLU, nn.Hardswish, nn.Sigmoid)

# TFLite's operators in the terms of a recipe; MUL is also half of a SiLU, and one of attention's products. GELU and
# RELU are not among them: XNNPACK takes neither in integers, and makes a table of one that stands between integers.
KINDS = {
    "CONV_2D": "convolution",
    "DEPTHWISE_CONV_2D": "convolution",
    "FULLY_CONNECTED": "linear",
    "LOGISTIC": "activation",
    "ADD": "add",
    "MUL": "multiply",
    "CONCATENATION": "concat",
    "MEAN": "pool",
    "RESIZE_BILINEAR": "resize",
    "PAD": "pad",
}
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # whose second input are weights, if it is a constant
MOVERS = ("RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT")  # compute nothing


@dataclass(frozen=True)
class Operator:
    """One operator of a graph; `module` is the path of its module within the network, "" for the network itself."""

    code: str
    kind: str | None  # in a recipe; None for what is never quantized by choice
    module: str
    inputs: tuple[int, ...]  # tensors; -1 where an optional one is missing
    outputs: tuple[int, ...]


def operators_of(model: Any, graph: nn.Module) -> list[Operator]:
    """The operators of `model`, a `ModelT` converted from `graph`, with tensors named by `module_name`."""
    (subgraph,) = model.subgraphs
    found = []
    for operator in subgraph.operators:
        name = operator_name(model, operator)
        inputs = tuple(int(tensor) for tensor in operator.inputs)
        outputs = tuple(int(tensor) for tensor in operator.outputs)
        # Weights are named by their layer, whatever became of what it computes: that may be the graph's output.
        of_layer = name in WEIGHTED and is_constant(model, inputs[1])
        path = _module_path(subgraph.tensors[inputs[1] if of_layer else outputs[0]].name)
        has_constants = any(is_constant(model, tensor) for tensor in inputs)
        found.append(
            Operator(name, _kind(name, _module(graph, path), has_constants), _in_network(path), inputs, outputs)
        )
    return found


def is_float_value(model: Any, tensor: int) -> bool:
    """Whether a tensor holds float32 values that are computed or passed in."""
    if tensor < 0 or is_constant(model, tensor):
        return False
    return tensor_types()[model.subgraphs[0].tensors[tensor].type] == "FLOAT32"


def _module_path(name: str | bytes) -> str:
    """`network/stages/0/0;;network/stages/0/0/project/conv;2` -> `network.stages.0.0`: the first is where it stands."""
    text = name.decode() if isinstance(name, bytes) else name
    return text.split(";")[0].replace("/", ".")


def _in_network(path: str) -> str:
    return path.removeprefix("network").removeprefix(".")


def _module(graph: nn.Module, path: str) -> nn.Module | None:
    try:
        return graph.get_submodule(path)
    except AttributeError:  # a name that litert-torch made, such as `logits`
        return None


def _kind(code: str, module: nn.Module | None, has_constants: bool) -> str | None:
    if isinstance(module, NORMS):
        return None
    if isinstance(module, ACTIVATIONS) and code == "MUL":
        return "activation"
    if isinstance(module, ATTENTION) and code == "MUL":  # one of two activations, as BATCH_MATMUL: stays float
        return None
    if code == "ADD" and has_constants:  # a position bias, added to the input of a softmax
        return None
    return KINDS.get(code)
