"""The phone graph as every format gets it for integers: deployed, smoothed, and with corrected biases."""

from __future__ import annotations

from itertools import islice

from torch import nn

from mobilevit_sdk.deployment import PhoneGraph, deploy
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.progress import Progress, counted, silent
from mobilevit_sdk.quantization.bias_correction import correct_biases
from mobilevit_sdk.quantization.smoothing import Smoothing, apply_smoothing, smooth
from mobilevit_sdk.spec import ModelSpec

IMAGES = 64  # for means and maxima, which need fewer images than the ends of a range


def deploy_prepared(
    model: nn.Module,
    target: str,
    spec: ModelSpec,
    quantization: Quantization,
    precision: str,
    progress: Progress = silent,
) -> tuple[PhoneGraph, Smoothing]:
    """`deploy` for integers; then equalize the channels that share a scale, over images, and correct the means.

    The correction takes back what rounding weights to 8 bits shifts; precisions with 4 bits do without. `progress`
    counts the images. The factors are those that channels were equalized by. Raises what `deploy` raises.
    """
    graph = deploy(model, target, spec, quantized=True)
    images = list(islice(quantization.images, IMAGES))
    smoothing = smooth(graph, counted(images, "equalize channels", progress))
    if quantization.recipe.bias_correction and precision.startswith("int8"):
        correct_biases(graph, quantization.recipe, counted(images, "correct biases", progress))
    return graph, smoothing


def deploy_smoothed(model: nn.Module, target: str, spec: ModelSpec, smoothing: Smoothing) -> PhoneGraph:
    """What `deploy_prepared` rounds to integers, in floating point and with its own biases.

    Raises what `deploy` raises, and ArtifactError where the factors are not those of this network.
    """
    graph = deploy(model, target, spec, quantized=True)
    apply_smoothing(graph, smoothing)
    return graph
