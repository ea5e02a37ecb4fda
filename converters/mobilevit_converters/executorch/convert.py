"""From a deployed graph to a .pte file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from torch import nn
from torch.export import ExportedProgram

from mobilevit_converters.executorch.file.program import FORWARD, SPEC
from mobilevit_converters.executorch.passes.coreai_lowering import lower_to_coreai
from mobilevit_converters.executorch.passes.lowering import xnnpack_lowering
from mobilevit_converters.executorch.passes.vulkan_lowering import lower_to_vulkan, vulkan_program
from mobilevit_converters.executorch.quantize.pt2e import quantized
from mobilevit_converters.executorch.toolchain import import_module
from mobilevit_sdk.deployment import exported
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.entries import entry_names
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.spec import ModelSpec


def convert(
    graphs: Sequence[nn.Module],
    spec: ModelSpec,
    backend: str | None,
    precision: str,
    path: Path,
    quantization: Quantization | None = None,
    record: Path | None = None,
) -> None:
    """Write a graph for each image size of `spec` to `path`; see `Converter.convert` and `HoldsSizes.convert_sizes`.

    The method `forward` is that of the first size, `image_256x192` of another. It takes float32 [1, 3, H, W] and
    returns the logits, float32 [1, num_classes], or features, or the logits and then features. Two more methods return
    strings, which an app reads with the runtime that it has: `labels`, one per line, and `model_spec`, JSON; the labels
    of a task are in `labels_` and its name. With `record`, an ETRecord of the lowering to XNNPACK goes there. Raises
    ToolchainError.
    """
    strings = {SPEC: msgspec.json.encode(spec).decode()}
    strings |= {output.labels_name: "\n".join(output.label_lines) for output in spec.outputs if output.labels}
    try:
        if backend == "vulkan":
            program = lower_to_vulkan(vulkan_program(graphs[0], spec.preprocessing.image_size, precision), strings)
        elif backend == "coreai":
            program = lower_to_coreai(graphs[0], spec, precision, strings)
        else:
            names = entry_names(spec, FORWARD).values()
            methods = {name: exported(graph, size) for name, graph, size in zip(names, graphs, spec.sizes, strict=True)}
            if quantization is not None:
                methods = {name: quantized(traced, precision, quantization) for name, traced in methods.items()}
            if backend == "coreml":
                program = _lower_to_coreml(methods[FORWARD], strings, precision)
            else:
                program = _lower_to_xnnpack(methods, strings, precision, record)
    except (OSError, ToolchainError):
        raise  # a full disk is not the toolchain's fault
    except Exception as error:
        raise ToolchainError(f"ExecuTorch cannot convert {spec.model}: {type(error).__name__}: {error}") from error
    path.write_bytes(program)


def _lower_to_xnnpack(
    methods: dict[str, ExportedProgram], strings: dict[str, str], precision: str, record: Path | None = None
) -> bytes:
    exir = import_module("executorch.exir")
    with xnnpack_lowering(precision) as partitioner:
        partitioners = {name: [partitioner()] for name in methods}
        edge = exir.to_edge_transform_and_lower(
            methods, partitioner=partitioners, constant_methods=strings, generate_etrecord=record is not None
        )
        program = edge.to_executorch()
        if record is not None:
            program.get_etrecord().save(str(record))
        return bytes(program.buffer)


def _lower_to_coreml(traced: ExportedProgram, strings: dict[str, str], precision: str) -> bytes:
    """For iOS 16 and newer, like our .mlpackage; the whole graph in one delegate, or an error."""
    from mobilevit_converters.coreml.toolchain import import_coremltools, quiet

    ct = import_coremltools()
    for node in traced.graph.nodes:
        if node.kwargs:  # coremltools 9.0 silently drops them: tanh-GELU becomes exact, alpha of add becomes 1
            raise ToolchainError(f"coremltools does not read the keywords of {node.target}: {dict(node.kwargs)}")
    with quiet():
        exir = import_module("executorch.exir")
        coreml = import_module("executorch.backends.apple.coreml.partition")
        specs = import_module("executorch.backends.apple.coreml.compiler").CoreMLBackend.generate_compile_specs(
            minimum_deployment_target=ct.target.iOS16,
            compute_precision={"fp16": ct.precision.FLOAT16, "fp32": ct.precision.FLOAT32}[precision],
        )
        partitioner = coreml.CoreMLPartitioner(compile_specs=specs, lower_full_graph=True)
        edge = exir.to_edge_transform_and_lower(traced, partitioner=[partitioner], constant_methods=strings)
        for _, delegate in edge.exported_program().graph_module.named_children():
            delegate._processed_bytes = _without_debug_information(delegate.processed_bytes)
        return bytes(edge.to_executorch().buffer)


def _without_debug_information(data: bytes) -> bytes:
    """A Core ML delegate without what only ExecuTorch's event tracer reads: an eighth of the bytes of MobileViT-XXS."""
    container: Any = import_module("executorch.backends.apple.coreml.executorchcoreml")
    with tempfile.TemporaryDirectory() as folder:
        container.unflatten_directory_contents(data, folder)
        (root,) = Path(folder).iterdir()
        for file in (root / "debug_info.json", root / "model.mlpackage" / "executorch_debug_handle_mapping.json"):
            file.unlink(missing_ok=True)
        return bytes(container.flatten_directory_contents(str(root)))
