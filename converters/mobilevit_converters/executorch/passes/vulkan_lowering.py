"""The lowering to Vulkan: the whole graph in one delegate, in the precision that it states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from mobilevit_converters.executorch.passes.fast_lowering import fast_lowering
from mobilevit_converters.executorch.passes.graph_rewrites import write_silu_as_product
from mobilevit_converters.executorch.passes.lowering import why_stock
from mobilevit_converters.executorch.passes.replacement import is_there, replaced
from mobilevit_converters.executorch.toolchain import import_module
from mobilevit_sdk.deployment import InHalf, exported
from mobilevit_sdk.deployment.polynomial_gelu import gelus_as_tanh
from mobilevit_sdk.errors import ToolchainError

# A phone's GPU has textures of 2048 texels a side at least, by Vulkan's specification; what is longer is a buffer.
OPTIONS = {"small_texture_limits": True}


def vulkan_program(graph: nn.Module, image_size: tuple[int, int], precision: str) -> ExportedProgram:
    """The exported `graph` in the precision of its file, "fp16" or "fp32"; it takes and gives float32 in both.

    ExecuTorch decomposes a SiLU of float16 into one of float32 between two conversions, which leave the textures.
    """
    if precision == "fp16":
        graph = InHalf(graph)
        gelus_as_tanh(graph)
    traced = exported(graph, image_size)
    write_silu_as_product(traced.graph_module)
    for values in (traced.state_dict, traced.constants):
        for name, value in values.items():
            if isinstance(value, Tensor) and value.untyped_storage().nbytes() != value.nbytes:
                # ExecuTorch writes all the memory behind a view, from its start: other numbers than those in view.
                own = value.detach().clone(memory_format=torch.contiguous_format)
                values[name] = nn.Parameter(own, requires_grad=False) if isinstance(value, nn.Parameter) else own
    return traced


def lower_to_vulkan(traced: ExportedProgram, strings: dict[str, str]) -> bytes:
    """A .pte whose graph is one Vulkan delegate. Raises ToolchainError where an operator stays outside."""
    exir = import_module("executorch.exir")
    module = import_module("executorch.backends.vulkan.partitioner.vulkan_partitioner")
    partitioner = module.VulkanPartitioner(OPTIONS)
    whole, keep = partitioner.ops_to_not_decompose(traced)
    # Of a slice, which is not contiguous, a linear would become a product with as many copies of its weight as rows.
    partitioner.ops_to_not_decompose = lambda _: ([*whole, torch.ops.aten.linear.default], keep)
    with without_language_patterns(), nullcontext() if why_stock() else fast_lowering():
        edge = exir.to_edge_transform_and_lower(traced, partitioner=[partitioner], constant_methods=strings)
    nodes = edge.exported_program().graph.nodes
    calls = [getattr(node.target, "__name__", str(node.target)) for node in nodes if node.op == "call_function"]
    outside = sorted({*calls} - {"executorch_call_delegate", "getitem"})
    if outside or calls.count("executorch_call_delegate") != 1:
        raise ToolchainError(f"ExecuTorch's Vulkan partitioner leaves {', '.join(outside) or 'everything'} outside")
    return bytes(edge.to_executorch().buffer)


PATTERNS = "executorch.backends.vulkan.patterns:fusable_patterns"


@contextmanager
def without_language_patterns() -> Iterator[None]:
    """Within the context, ExecuTorch looks for no patterns of language models, whose graphs it exports twice to do so:
    a third of the time that a network of images takes, and none of them is in it."""
    if not is_there(PATTERNS):
        yield
        return
    with replaced(PATTERNS, lambda patterns: {}):
        yield
