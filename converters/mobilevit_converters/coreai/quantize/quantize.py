"""An exported phone graph with Core AI's operators for integers, by the recipe that every format follows."""

from __future__ import annotations

from typing import Any

from torch.export import ExportedProgram
from torch.fx import GraphModule

from mobilevit_converters.coreai.quantize.activations import quantize_activations
from mobilevit_converters.coreai.quantize.weights import quantize_weights
from mobilevit_converters.coreai.toolchain import import_coreai_torch
from mobilevit_converters.exported_graphs import drop_unused_constants
from mobilevit_sdk.formats.quantization import Quantization


def quantized(traced: ExportedProgram, precision: str, quantization: Quantization) -> GraphModule:
    """`traced`, in float32, as a module that computes in `precision` wherever the recipe does not keep it float.

    What is not an integer stays float32 for the caller to halve. Raises ToolchainError without coreai-torch, and
    ValueError where the values to calibrate with are not finite.
    """
    import_coreai_torch()
    import coreai_torch._compression.custom_layers  # noqa: F401 - tells torch of Core AI's operators; coreai-opt has it, too

    module: Any = traced.module(check_guards=False)
    if precision == "int8":
        quantize_activations(module, quantization)
    quantize_weights(module, quantization.recipe, bits=4 if precision == "int4-weight" else 8)
    module.graph.eliminate_dead_code()
    drop_unused_constants(module)
    module.recompile()
    return module
