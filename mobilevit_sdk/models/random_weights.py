"""Weights for trying a model without a checkpoint, that hide nothing.

Default initializations are no test of a conversion: residual branches whose last gain is 0 are folded away by the
converter, the file shrinks, and parity is perfect. Here every gain, bias and statistic is away from its neutral value.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import torch
from torch import Tensor, nn

from mobilevit_sdk.layers import (
    CrossAttention,
    DecoderLayer,
    EncoderLayer,
    ObjectQueries,
    RelativePositions,
    SetTransformer,
    StochasticDepth,
)
from mobilevit_sdk.layers.hooks import forward_hooks
from mobilevit_sdk.layers.relative_positions import bump
from mobilevit_sdk.layers.traits import residual_streams

M = TypeVar("M", bound=nn.Module)

_GAIN = 1.4
_ATTENTION_GAIN = 0.5  # between different tokens; sharper maps amplify every rounding from layer to layer
_BRANCH_STRENGTH = 1 / 16
_LAYER_STRENGTH = 1 / 16
_PROTOTYPE_STRENGTH = 2
_ALIKE = 0.8  # cosine


@torch.no_grad()
def randomize(model: M, seed: int) -> M:
    """Fill every parameter and buffer, in place, with values that depend on its name and `seed` alone.

    Kernels and matrices are normal with a gain that keeps activations alive through the depth; gains and variances lie
    in [0.5, 1.5]; biases and means are normal with standard deviation 0.2, and so are learned tokens and
    positions. Queries of objects are standard normal, and relative positions look around the query. Integer buffers
    stay as they are.
    """
    constants = {each.data_ptr() for stream in residual_streams(model) for each in stream.constants}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            value = torch.rand(tensor.shape, generator=generator) + 0.5
        elif tensor.ndim > 1 and tensor.data_ptr() not in constants:
            value = torch.randn(tensor.shape, generator=generator) * (_GAIN / tensor[0].numel() ** 0.5)
        else:
            value = torch.randn(tensor.shape, generator=generator) * 0.2
        tensor.copy_(value)
    for layer in model.modules():
        if isinstance(layer, ObjectQueries):
            layer.weight.mul_(layer.weight.shape[1] ** 0.5 / _GAIN)
        elif isinstance(layer, RelativePositions):  # bumps over a few patches, around the query
            for row in layer.table:
                strength, dx, dy = row.tolist()
                row.copy_(bump(0.05 + 0.1 * abs(strength), dx, dy))
        elif isinstance(layer, CrossAttention):
            layer.qkv.weight[: sum(layer.rows[:2])].mul_(_ATTENTION_GAIN / _GAIN)
        elif isinstance(layer, EncoderLayer | DecoderLayer):  # what they add is small beside what tells tokens apart
            for end in (layer.attention.proj, layer.mlp.fc2):
                for parameter in end.parameters():
                    parameter.mul_(_LAYER_STRENGTH)
    return model


@torch.no_grad()
def condition_weights(model: M, images: Tensor) -> M:
    """Bring random weights, in place, into the state of a trained network, by one pass in eval mode over `images`.

    What a random network lacks, and what its lack would show as, is:

    - BatchNorm statistics that fit what reaches them. Activations grow through each sum: EfficientViT-M0 reaches 1e13,
      where a softmax is an argmax and float16 infinite. Here every channel leaves with about a mean square of 1. Its
      mean mostly stays: what is left when a large mean goes would grow with every layer, and rounding with it.
    - Residual branches that are small beside their stream. With branches as strong as the stream the network is
      chaotic: float32 and float64 already part. Each ends at a sixteenth of its strength.
    - Tokens that are apart, where objects look for them: their map has no mean and about unit strength.
    - Classes that are apart. Random logits nearly tie in one image of thirty. The classifier gets, on top of its random
      rows, one prototype for each image: the direction of its features from the mean, as one step of training would.

    All of it is rounded coarsely, so that every machine finds the same. Images: [B, 3, H, W], as the model takes them,
    no two alike.
    """
    last_layer: list[nn.Module] = []
    rows: list[tuple[nn.Linear, Tensor, Tensor]] = []  # layers that answer a row for each image

    def condition_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
        var, mean = torch.var_mean(inputs[0].double(), axes, correction=0)
        shift = norm.running_mean * var.sqrt()
        power = var + (mean - shift) ** 2
        power = power.clamp(min=float(power.mean()))  # what hardly varies here may vary in other images
        std = 2 ** (power.log2().round() / 2)
        norm.running_var.copy_(std**2)
        norm.running_mean.copy_(_rounded(shift, std))

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        last_layer[:] = [layer]
        if isinstance(layer, nn.Linear) and output.dim() == 2:
            rows.append((layer, inputs[0], output))

    def weaken(end: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for parameter in last_layer[0].parameters():
            parameter.mul_(_BRANCH_STRENGTH)
        return (inputs[0] * _BRANCH_STRENGTH,)

    def center(transformer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (conv,) = last_layer
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        scale = float(2 ** (inputs[0].std().log2().round()))
        mean = _rounded(inputs[0].mean((0, 2, 3)), torch.tensor(scale))
        conv.weight.div_(scale)
        conv.bias.sub_(mean).div_(scale)
        return ((inputs[0] - mean[:, None, None]) / scale,)

    layers = list(model.modules())
    transformers = [layer for layer in layers if isinstance(layer, SetTransformer)]
    norms = [layer for layer in layers if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    branch_ends = [layer for layer in layers if isinstance(layer, StochasticDepth)]  # of every residual branch
    with forward_hooks(
        before=[
            *((norm, condition_norm) for norm in norms),
            *((end, weaken) for end in branch_ends),
            *((transformer, center) for transformer in transformers),
        ],
        after=[(layer, remember) for layer in layers if [*layer.parameters(recurse=False)]],
    ):
        answers = model.eval()(images)
    if getattr(model, "scores", True):
        ends = answers if isinstance(answers, tuple) else (answers,)
        heads = [row for row in rows if any(row[2] is end for end in ends)]
        for linear, features, _ in heads or rows[-1:]:
            _add_prototypes(linear, features)
    return model


def _add_prototypes(classifier: nn.Linear, features: Tensor) -> None:
    """Add to rows of the classifier the directions of the images: nearest-mean classification. Features: [B, C].

    Of images that look alike only the first gets one, or they would nearly tie.
    """
    mean = features.mean(0)
    directions = nn.functional.normalize(features - mean)
    chosen: list[int] = []
    for image, likeness in enumerate(directions @ directions.T):
        if not chosen or likeness[chosen].max() < _ALIKE:
            chosen.append(image)
    prototypes = _rounded(directions[chosen] * features.shape[1] ** 0.5, torch.ones(())) / features.shape[1] ** 0.5
    prototypes *= _PROTOTYPE_STRENGTH * classifier.weight.norm(dim=1).mean()
    rows = torch.arange(len(chosen)) * classifier.out_features // len(chosen)
    classifier.weight.index_add_(0, rows, prototypes)
    if classifier.bias is not None:
        classifier.bias.index_add_(0, rows, _rounded(-prototypes @ mean, torch.ones(())))


def _rounded(values: Tensor, unit: Tensor) -> Tensor:
    """To quarters of the unit."""
    return (4 * values / unit).round() / 4 * unit
