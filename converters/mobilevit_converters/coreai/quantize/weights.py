"""Integer weights: constants of the exported graph stored in 8 bits, or as palettes of 16 values.

A palette for each output channel, as in our Core ML files: at the same 4 bits it keeps more than even steps do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from mobilevit_converters.exported_graphs import constant, module_path, new_constant
from mobilevit_converters.quantization.integers import MIN_QUANTIZED_ELEMENTS, along, int8
from mobilevit_converters.quantization.palettes import MIN_PALETTE_ELEMENTS, TABLE, palettes
from mobilevit_sdk.formats.quantization import QuantizationRecipe

aten = torch.ops.aten

WEIGHTED: dict[Any, str] = {aten.conv2d.default: "convolution", aten.linear.default: "linear"}  # -> kind in a recipe


def quantize_weights(module: GraphModule, recipe: QuantizationRecipe, bits: int) -> None:
    """Store weights and large constants in `bits`; the operators that read them get what is stored, as floats again."""
    for node in module.graph.find_nodes(op="get_attr"):
        readers = list(node.users)
        weighted = [reader.target in WEIGHTED and reader.args[1] is node for reader in readers]
        values = constant(node).detach()
        if (
            not readers
            or not values.is_floating_point()
            or any(_kept(reader, recipe, weighs) for reader, weighs in zip(readers, weighted, strict=True))
            or not (all(weighted) or values.numel() >= MIN_QUANTIZED_ELEMENTS)
        ):
            continue
        with module.graph.inserting_before(node):
            stored = _stored(module, node.name, values, bits if all(weighted) else 8)
        node.replace_all_uses_with(stored)


def _kept(reader: Node, recipe: QuantizationRecipe, weighs: bool) -> bool:
    return recipe.keeps_float(module_path(reader)) or (weighs and WEIGHTED[reader.target] not in recipe.operators)


def _stored(module: GraphModule, name: str, values: Tensor, bits: int) -> Node:
    """A call that computes the constant from what is stored of it."""
    coreai = torch.ops.coreai
    if bits == 4 and values[0].numel() >= MIN_PALETTE_ELEMENTS:
        tables, indices = palettes(values.flatten(1))
        shape = (len(values), *[1] * (values.dim() - 1), TABLE, 1)
        # coreai-torch packs four bits where it reads `indices` and `lut` in the names.
        integers = new_constant(module, f"{name}_indices", indices.to(torch.uint8).reshape(values.shape))
        table = new_constant(module, f"{name}_lut", tables.reshape(shape))
        return module.graph.call_function(coreai.lut_to_dense.default, (integers, table, 0))
    axis = next((axis for axis, size in enumerate(values.shape) if size > 1), 0)
    stored, scale = int8(values.numpy().astype(np.float16), axis)
    integers = new_constant(module, f"{name}_int8", torch.from_numpy(stored))
    by = new_constant(module, f"{name}_scale", torch.from_numpy(along(scale, axis, values.dim())).float())
    return module.graph.call_function(coreai.constexpr_blockwise_shift_scale.default, (integers, by))
