"""From a deployed graph to a .tflite file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_converters.tflite.file.associated_files import DESCRIPTION, append_associated_files
from mobilevit_converters.tflite.file.metadata import add_metadata
from mobilevit_converters.tflite.file.schema import SIGNATURE, parse, serialize
from mobilevit_converters.tflite.passes.broadcast_ranks import broadcast_ranks
from mobilevit_converters.tflite.passes.constants import pack_constants
from mobilevit_converters.tflite.quantize.quantize import quantize
from mobilevit_converters.tflite.toolchain import import_from
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.entries import entry_names
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.spec import ModelSpec

IMAGE = "image"

# Weights of convolutions and linears in float16, each followed by a DEQUANTIZE: the form that every TFLite runtime
# takes, on the GPU as it is and on the CPU unpacked to float32 when the model is loaded.
FLOAT16_WEIGHTS = [
    {
        "regex": ".*",
        "operation": "*",
        "algorithm_key": "float_casting",
        "op_config": {
            "weight_tensor_config": {"num_bits": 16, "dtype": "FLOAT", "granularity": "TENSORWISE", "symmetric": True},
            "compute_precision": "FLOAT",
            "explicit_dequantize": True,
        },
    }
]


class ChannelsLast(nn.Module):
    """The graph with the layout of Android's pixels: RGB in [0, 1], [1, H, W, 3] -> {"logits": [1, num_classes]}.

    `outputs` are the names of the answers.
    """

    def __init__(self, network: nn.Module, *outputs: str) -> None:
        super().__init__()
        self.outputs = outputs
        self.network = network  # not `graph`: torch.export gives its modules an attribute of that name

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        answers = self.network(image.permute(0, 3, 1, 2))
        return dict(zip(self.outputs, answers if isinstance(answers, tuple) else (answers,), strict=True))


def convert(
    graphs: Sequence[nn.Module],
    spec: ModelSpec,
    precision: str,
    path: Path,
    quantization: Quantization | None = None,
) -> None:
    """Write a graph for each image size of `spec` to `path`; see `Converter.convert` and `HoldsSizes.convert_sizes`.

    Each is a signature: `serving_default` that of the first size, `image_256x192` of another. It takes `image`, float32
    [1, H, W, 3], and returns `logits`, float32 [1, num_classes], or `features`, or both. The file carries TFLite
    Metadata, and labels.txt and model.json are appended to it. Raises ToolchainError.
    """
    try:
        content = float_model(graphs, spec)
        if precision == "fp16":
            content = _edited(_with_float16_weights(content), _with_float16_constants)
        elif quantization is not None:
            content = quantize(content, graphs[0], precision, quantization)
        content = _edited(_edited(content, _tidy), lambda model: add_metadata(model, spec))
    except Exception as error:
        raise ToolchainError(f"litert-torch cannot convert {spec.model}: {type(error).__name__}: {error}") from error
    path.write_bytes(content)
    append_associated_files(path, spec)


def float_model(graphs: Sequence[nn.Module], spec: ModelSpec) -> bytes:
    """The graphs as one float32 model whose tensors have the names of the modules that they come from."""
    converter = import_from("litert-torch", "litert_torch")
    outputs = [output.name for output in spec.outputs]
    signatures = entry_names(spec, SIGNATURE).values()
    for graph, size, signature in zip(graphs, spec.sizes, signatures, strict=True):
        sample = {IMAGE: torch.zeros(1, *size, 3)}
        converter = converter.signature(signature, ChannelsLast(graph, *outputs).eval(), sample_kwargs=sample)
    content = converter.convert().model_content()
    return _edited(_edited(content, broadcast_ranks), _name_by_modules)


def _with_float16_weights(content: bytes) -> bytes:
    quantizer = import_from("litert-quantizer", "litert_quantizer.quantizer").Quantizer(content)
    quantizer.load_quantization_recipe(FLOAT16_WEIGHTS)
    return bytes(quantizer.quantize(enable_progress_report=False).quantized_model)


def _with_float16_constants(model: Any) -> None:
    """Position biases, which litert-quantizer ignores: half of TinyViT-21M at 384 pixels."""
    pack_constants(model, "FLOAT16", keeps=lambda operator: False)


def _edited(content: bytes, edit: Callable[[Any], None]) -> bytes:
    model = parse(content)
    edit(model)
    return serialize(model)


def _name_by_modules(model: Any) -> None:
    """litert-torch also puts the classes along the path into each name, which makes a tenth of a small model's file."""
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            tensor.name = module_name(tensor.name.decode())


def _tidy(model: Any) -> None:
    """Name the interface as its signature does, and put every constant into the flatbuffer.

    litert-quantizer moves constants behind the flatbuffer, where older runtimes do not look.
    """
    model.description = DESCRIPTION
    for signature in model.signatureDefs:
        for named in (*signature.inputs, *signature.outputs):
            model.subgraphs[signature.subgraphIndex].tensors[named.tensorIndex].name = named.name
    for buffer in model.buffers:
        if buffer.data is not None:
            buffer.data = np.frombuffer(buffer.data, np.uint8)


def module_name(tensor_name: str) -> str:
    """`pkg.ChannelsLast/pkg.PhoneGraph_network/torch.nn.Linear_head;1` -> `head;1`."""
    return re.sub(r"[\w.]*\.ChannelsLast/(network/)?", "", re.sub(r"[\w.]*\.[A-Za-z0-9]+_", "", tensor_name))
