"""From a deployed graph to an .mlpackage."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_converters.coreml.file.package import (
    BACKEND_KEY,
    IMAGE,
    MAIN,
    SPEC_KEY,
    make_identifiers_stable,
    model_file,
    parse_model,
)
from mobilevit_converters.coreml.quantize.weights import quantize
from mobilevit_converters.coreml.toolchain import import_coremltools, quiet
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.entries import entry_names
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.spec import FEATURES, LOGITS, ModelSpec

# The first iOS that has the operators of a precision; macOS, tvOS and watchOS of the same year have them, too.
OLDEST_SYSTEM = {"fp32": "iOS16", "fp16": "iOS16", "int8": "iOS17", "int8-weight": "iOS16", "int4-weight": "iOS18"}
PROBABILITIES, LABEL = "probabilities", "classLabel"


class _WithProbabilities(nn.Module):
    """Class scores, and the probabilities that a Core ML classifier ranks its labels by."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(image)
        return logits, logits.softmax(dim=-1)


def convert(
    graphs: Sequence[nn.Module],
    spec: ModelSpec,
    backend: str | None,
    precision: str,
    path: Path,
    quantization: Quantization | None = None,
) -> None:
    """Write a graph for each image size of `spec` to `path`; see `Converter.convert` and `HoldsSizes.convert_sizes`.

    Of several sizes, each has a function, from iOS 18 on: `main` the first, `image_256x192` another. It takes an RGB
    image of the spec's size. It returns `logits`, float32 [1, num_classes], or `features`, or both, and, where the spec
    has scores alone with labels for two classes or more, the label and the probabilities that Vision and Xcode's
    preview read. One score has no such interface, which would answer 100% whatever the image. Raises ToolchainError.
    """
    ct = import_coremltools()
    try:
        with quiet():
            if len(graphs) == 1:
                _write(ct, graphs[0], spec, precision, path, quantization)
            else:
                _write_functions(ct, graphs, spec, precision, path)
    except OSError:
        raise  # a full disk is not the toolchain's fault
    except Exception as error:
        raise ToolchainError(f"coremltools cannot convert {spec.model}: {type(error).__name__}: {error}") from error
    _describe(path, spec, backend)
    make_identifiers_stable(path)


def _write(
    ct: Any, graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
) -> None:
    """A package of one function."""
    program = _program(ct, graph, spec, precision)
    if quantization is not None:
        quantize(program, precision, quantization, wrappers=2 if _classifies(spec) else 1)
    _emit(ct, program, spec, precision, path)


def _write_functions(ct: Any, graphs: Sequence[nn.Module], spec: ModelSpec, precision: str, path: Path) -> None:
    """A package with a function for each image size, which share equal constants."""
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as folder:
        functions = ct.utils.MultiFunctionDescriptor()
        for graph, entry, name in zip(graphs, spec.entries, entry_names(spec, MAIN).values(), strict=True):
            alone = str(Path(folder) / f"{name}.mlpackage")
            _write(ct, graph, entry, precision, Path(alone))
            functions.add_function(alone, src_function_name=MAIN, target_function_name=name)
        functions.default_function_name = MAIN
        ct.utils.save_multifunction(functions, str(path))


def _classifies(spec: ModelSpec) -> bool:
    """Whether the package is a Core ML classifier: it returns nothing else, and has names to choose between."""
    return spec.labels is not None and spec.num_classes > 1 and len(spec.outputs) == 1


def _program(ct: Any, graph: nn.Module, spec: ModelSpec, precision: str) -> Any:
    """The MIL program: typed and optimized, its outputs float32 whatever it computes in."""
    height, width = spec.preprocessing.image_size
    image = torch.zeros(1, 3, height, width)
    names = [output.name for output in spec.outputs]
    if _classifies(spec):
        graph = _WithProbabilities(graph)
        names.append(PROBABILITIES)
    # Traced, not exported: from torch.export, coremltools 9.0 silently drops keyword arguments, so that tanh-GELU
    # becomes exact and torch.add(x, y, alpha=2) becomes x + y.
    traced = torch.jit.trace(graph.eval(), image, check_trace=False)  # type: ignore[no-untyped-call]
    return ct.convert(
        traced,
        convert_to="milinternal",
        inputs=[ct.ImageType(IMAGE, shape=tuple(image.shape), scale=1 / 255, color_layout=ct.colorlayout.RGB)],
        outputs=[ct.TensorType(name, dtype=np.float32) for name in names],
        compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
        minimum_deployment_target=ct.target[OLDEST_SYSTEM[precision]],
    )


def _emit(ct: Any, program: Any, spec: ModelSpec, precision: str, path: Path) -> None:
    """Write the program as a package.

    A step of its own because coremltools 9.0 takes either named outputs or a classifier, not both in one call: the
    classifier replaces one output by two, and the list of declared outputs is then too short. The program keeps the
    names; the declarations are dropped. FLOAT32 means here that nothing more is cast.
    """
    program.functions["main"].set_output_types(None)
    classifier = None
    if _classifies(spec):
        assert spec.labels is not None
        classifier = ct.ClassifierConfig(
            distinct(spec.labels), predicted_feature_name=LABEL, predicted_probabilities_output=PROBABILITIES
        )
    ct.convert(
        program,
        convert_to="mlprogram",
        classifier_config=classifier,
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target[OLDEST_SYSTEM[precision]],
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
        package_dir=str(path),
    )


def distinct(labels: tuple[str, ...]) -> list[str]:
    """The labels with a number behind each repetition: Core ML returns a dictionary, and ImageNet has two cranes."""
    names: dict[str, None] = {}
    for label in labels:
        name, count = label, 1
        while name in names:
            count += 1
            name = f"{label} ({count})"
        names[name] = None
    return list(names)


def _describe(path: Path, spec: ModelSpec, backend: str | None) -> None:
    """Write the package's metadata: what Xcode shows, and spec and backend for our own tools."""
    file = model_file(path)
    model = parse_model(file)
    description = model.description
    name = f"of {spec.labels[0]!r}" if spec.labels else "of the one class"
    scores = f"Class scores before softmax, one for each of {spec.num_classes} classes"
    meaning = {
        **{task.name: f"Class scores of the task {task.name} before softmax" for task in spec.tasks or ()},
        FEATURES: "The last map of features" if spec.features == "map" else "The mean of the last map of features",
        LOGITS: scores if spec.num_classes > 1 else f"The score {name} before a sigmoid: above 0 means yes",
        LABEL: "The most probable class",
        f"{LABEL}_probs": "The probability of each class",
    }
    if spec.num_queries:
        meaning = {output.name: output.meaning.capitalize() for output in spec.outputs}
    for interface, (height, width) in zip(description.functions or [description], spec.sizes, strict=True):
        interface.input[0].shortDescription = f"RGB image, {height} x {width} (height x width)"
        for output in interface.output:
            output.shortDescription = meaning[output.name]
    metadata = description.metadata
    what = f"an image classifier with {spec.num_classes} classes" if spec.num_classes > 1 else "one score for an image"
    if spec.features:
        what = f"{what}, and image features" if spec.returns_scores else "a network of image features"
    if spec.num_queries:
        what = f"an object detector with {spec.num_classes} classes and {spec.num_queries} boxes"
    metadata.shortDescription = f"{spec.model}, {what}"
    metadata.versionString = importlib.metadata.version("mobilevit-sdk")
    metadata.license = spec.license or ""
    metadata.userDefined[SPEC_KEY] = msgspec.json.encode(spec).decode()
    if backend is not None:
        metadata.userDefined[BACKEND_KEY] = backend
    for output in spec.outputs if len(spec.outputs) > 1 else ():  # a classifier's interface has its labels
        if output.labels is not None:
            metadata.userDefined[output.labels_name] = "\n".join(output.label_lines)
    if _classifies(spec):
        metadata.userDefined["com.apple.coreml.model.preview.type"] = "imageClassifier"
    file.write_bytes(model.SerializeToString(deterministic=True))
