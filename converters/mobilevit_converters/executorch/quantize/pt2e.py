"""A phone graph with quantize and dequantize nodes, from PT2E: the form that XNNPACK's delegate takes whole."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule

from mobilevit_converters.executorch.quantize.groups import in_groups
from mobilevit_converters.executorch.toolchain import import_module
from mobilevit_converters.exported_graphs import constant, drop_unused_constants, new_constant
from mobilevit_sdk.formats.quantization import Quantization


def quantized(traced: ExportedProgram, precision: str, quantization: Quantization) -> ExportedProgram:
    """`traced` in an integer precision. Raises ToolchainError without torchao, ValueError for non-finite values.

    int8: activations by ranges from the images, weights by output channel; the last product, whose answer only the
    caller reads, returns float scores from an input that is quantized at run time.
    int8-dynamic: so are the inputs of all products, by row of a linear, by tensor of a convolution. Depthwise
    convolutions, which XNNPACK does not have in that form, stay float.
    int4-weight: the same with 4 bits for the weights of linears, in groups of the recipe's size (rounded up to a
    multiple of 32) where it divides the row, else by output channel.
    """
    pt2e = import_module("torchao.quantization.pt2e.quantize_pt2e")
    from mobilevit_converters.executorch.quantize.quantizer import RecipeQuantizer

    module = pt2e.prepare_pt2e(traced.module(check_guards=False), RecipeQuantizer(quantization.recipe, precision))
    (image,) = traced.example_inputs[0]
    with torch.no_grad():
        for pixels in quantization.images if precision == "int8" else [image.numpy()]:
            module(torch.from_numpy(pixels))
    module = pt2e.convert_pt2e(module)
    if precision == "int4-weight":
        _group_weights(module, quantization.recipe.group_size)
    drop_unused_constants(module)
    return torch.export.export(module, (image,))


def _group_weights(module: GraphModule, group_size: int) -> None:
    """Give 4 bits in groups to the weights of linears whose inputs are quantized and whose weights are not yet."""
    ops = torch.ops.quantized_decomposed
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default):
        x, weight = node.args[:2]
        if weight.op != "get_attr" or not str(x.target).startswith("quantized_decomposed.dequantize"):
            continue
        values = constant(weight).detach()
        size = in_groups(values, group_size)
        groups = values.reshape(len(values), -1, size)
        scales = (groups.abs().amax(2) / 7).clamp(min=2**-20).bfloat16().float()  # as XNNPACK keeps them
        integers = (groups / scales[..., None]).round().clamp(-7, 7).to(torch.int8).reshape(values.shape)
        parts: dict[str, Tensor] = {"integers": integers, "scales": scales, "zeros": torch.zeros_like(scales)}
        with module.graph.inserting_before(node):
            constants = [new_constant(module, f"{weight.name}_{name}", part) for name, part in parts.items()]
            how = (-8, 7, torch.int8, size, torch.float32)
            node.args = (
                x,
                module.graph.call_function(ops.dequantize_per_channel_group.default, (*constants, *how)),
                *node.args[2:],
            )
    module.graph.eliminate_dead_code()
    module.recompile()
