"""From a deployed graph to an .aimodel asset."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.export import ExportedProgram

from mobilevit_converters.coreai.file.asset import BACKEND_KEY, IMAGE, MAIN, SPEC_KEY, make_metadata_stable
from mobilevit_converters.coreai.passes.decompositions import decomposition_table
from mobilevit_converters.coreai.quantize.quantize import quantized
from mobilevit_converters.coreai.toolchain import import_coreai_torch, quiet
from mobilevit_sdk.deployment import InHalf, exported
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.entries import entry_names
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.spec import LOGITS, ModelSpec


def convert(
    graphs: Sequence[nn.Module],
    spec: ModelSpec,
    backend: str | None,
    precision: str,
    path: Path,
    quantization: Quantization | None = None,
) -> None:
    """Write a graph for each image size of `spec` to `path`; see `Converter.convert` and `HoldsSizes.convert_sizes`.

    The asset's function `main` is that of the first size, `image_256x192` of another. It takes `image`, float32
    [1, 3, H, W], RGB in [0, 1], and returns `logits`, float32 [1, num_classes], or `features`, or both. Raises
    ToolchainError.
    """
    coreai_torch = import_coreai_torch()
    try:
        with quiet():
            program = _program(coreai_torch, graphs, spec, precision, quantization)
            asset = program.save_asset(path)
            asset.update_metadata(lambda metadata: _describe(metadata, spec, backend))
    except OSError:
        raise  # a full disk is not the toolchain's fault
    except Exception as error:
        raise ToolchainError(f"coreai-torch cannot convert {spec.model}: {type(error).__name__}: {error}") from error
    make_metadata_stable(path)


def _program(
    coreai_torch: Any,
    graphs: Sequence[nn.Module],
    spec: ModelSpec,
    precision: str,
    quantization: Quantization | None,
) -> Any:
    decomposed = {}
    for graph, size, name in zip(graphs, spec.sizes, entry_names(spec, MAIN).values(), strict=True):
        if quantization is not None:
            graph = quantized(exported(graph, size), precision, quantization)
        network = graph if precision == "fp32" else InHalf(graph)
        traced = torch.export.export(network.eval(), (torch.zeros(1, 3, *size),))
        decomposed[name] = traced.run_decompositions(decomposition_table(coreai_torch))
    return to_program(decomposed, [output.name for output in spec.outputs])


def to_program(decomposed: Mapping[str, ExportedProgram], outputs: list[str]) -> Any:
    """The optimized program (coreai.authoring.AIProgram) of graphs from `image` to `outputs`, by function."""
    coreai_torch = import_coreai_torch()
    # Released: to debug, the library would write this machine's paths and lines of source into the file.
    converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
    for name, graph in decomposed.items():
        converter.add_exported_program(graph, input_names=[IMAGE], output_names=outputs, entrypoint_name=name)
    return converter.to_coreai()


def _describe(metadata: Any, spec: ModelSpec, backend: str | None) -> None:
    """Fill in the asset's metadata: what Xcode shows, and spec and backend for our own tools."""
    version = importlib.metadata.version("mobilevit-sdk")
    metadata.author = f"mobilevit-sdk {version}"
    metadata.license = spec.license or ""
    metadata.model_description = description(spec)
    metadata.set_custom(SPEC_KEY, msgspec.json.encode(spec).decode())
    for output in spec.outputs:
        if output.labels is not None:
            metadata.set_custom("classes" if output.name == LOGITS else output.labels_name, list(output.labels))
    if backend is not None:
        metadata.set_custom(BACKEND_KEY, backend)


def description(spec: ModelSpec) -> str:
    """In words: what the model is, and what goes in and comes out, for which an asset has no field of its own."""
    sizes = " or ".join(f"[1, 3, {height}, {width}]" for height, width in spec.sizes)
    name = f"of {spec.labels[0]!r}" if spec.labels else "of the one class"
    if spec.num_classes > 1:
        what = f"an image classifier with {spec.num_classes} classes"
        scores = "class scores before softmax, one for each class"
    else:
        what, scores = "one score for an image", f"the score {name} before a sigmoid: above 0 means yes"
    features = "the last map of features" if spec.features == "map" else "the mean of the last map of features"
    if spec.features:
        what = f"{what} and a network of image features" if spec.returns_scores else "a network of image features"
    if spec.num_queries:
        what = f"an object detector with {spec.num_classes} classes and {spec.num_queries} boxes"
    meaning = {"scores": scores, "features": features}
    answers = "; ".join(f"{output.name}: {meaning.get(output.kind, output.meaning)}" for output in spec.outputs)
    return f"{spec.model}, {what}. {IMAGE}: float32 {sizes}, RGB in [0, 1]; mean and std are inside. {answers}."
