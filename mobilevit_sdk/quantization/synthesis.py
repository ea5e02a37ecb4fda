"""Images synthesized from a network alone, to calibrate with: DeepInversion (arXiv 1912.08795).

Each BatchNorm of a trained network holds the mean and the variance of its inputs in training. Gradient descent on
pixels finds images that the network assigns to given classes and whose activations have those moments. The two terms of
DearKD's data-free variant (arXiv 2204.12997, section 3.4) keep the images from looking alike.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.layers.hooks import forward_hooks
from mobilevit_sdk.spec import ModelSpec, Strict

_IMAGES_OF_A_CLASS = 4  # in a batch, so that each has neighbors to keep away from
_COARSE = 2  # the first half of the steps optimizes images this many times smaller
_JITTER = 1 / 16  # of a side: the largest shift of the images before a step
Weight = Annotated[float, Meta(ge=0, le=1e6)]


class SynthesisOptions(Strict, frozen=True):
    """The number of images and steps, and the weight of each term of the loss relative to the cross-entropy."""

    images: Annotated[int, Meta(ge=2, le=100_000)] = 128
    steps: Annotated[int, Meta(ge=2, le=100_000)] = 150  # for each batch, the first half of them at half the size
    batch_size: Annotated[int, Meta(ge=2, le=4096)] = 64  # moments are those of a batch: of few images they are rough
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 0.05
    batch_norm: Weight = 30.0
    total_variation: Weight = 5.0
    l2: Weight = 0.05
    easy_positive: Weight = 0.1
    boundary: Weight = 0.5
    margin: Weight = 0.1  # in mean distances between the images of a batch
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


@dataclass
class _Observed:
    """What one pass through the network gives beside the scores."""

    divergences: list[Tensor] = field(default_factory=list)  # of each BatchNorm
    features: Tensor | None = None  # the input of its last linear layer


def synthesize_batch(
    model: nn.Module,
    spec: ModelSpec,
    options: SynthesisOptions,
    index: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> tuple[Tensor, Tensor]:
    """Batch `index` of `batch_count(options)`: RGB uint8 [B, 3, H, W] on the CPU, and the class of each, [B].

    It depends on the model, the options and the index alone. `on_step` is told how many steps are done, and the loss.
    """
    (word,) = np.random.SeedSequence((options.seed, index)).generate_state(1)
    generator = torch.Generator().manual_seed(int(word))
    count, size = batch_size(options, index), spec.preprocessing.image_size
    classes = _classes(count, spec.num_classes, generator)
    device = next(model.parameters()).device
    model = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    canvas = _first_guess(count, (size[0] // _COARSE, size[1] // _COARSE), generator).to(device)
    coarse_steps = options.steps // 2
    for step in range(options.steps):
        if step == coarse_steps:
            canvas = _enlarged(canvas.detach(), size)
        if step in (0, coarse_steps):
            optimizer = torch.optim.Adam([canvas.requires_grad_()], betas=(0.5, 0.9))
        rate = options.learning_rate * 0.5 * (1 + math.cos(math.pi * step / options.steps))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(model, spec, _enlarged(canvas, size), classes.to(device), options, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            canvas.clamp_(0, 1)
        on_step(step + 1, loss.item())
    return canvas.detach().mul(255).round().byte().cpu(), classes


def batch_count(options: SynthesisOptions) -> int:
    return -(-options.images // options.batch_size)


def batch_size(options: SynthesisOptions, index: int) -> int:
    """The images of batch `index`; all batches have about the same size, because small ones have rough moments."""
    batches = batch_count(options)
    return options.images * (index + 1) // batches - options.images * index // batches


def _loss(
    model: nn.Module,
    spec: ModelSpec,
    pixels: Tensor,
    classes: Tensor,
    options: SynthesisOptions,
    generator: torch.Generator,
) -> Tensor:
    seen = _jittered(pixels, generator)
    x = to_model_input(seen, spec.preprocessing).contiguous(memory_format=torch.channels_last)
    with _observed(model) as observed:
        scores = model(x)
    loss = F.cross_entropy(scores, classes) + options.l2 * x.square().mean()
    loss = loss + options.total_variation * total_variation(pixels)
    if observed.divergences:
        loss = loss + options.batch_norm * torch.stack(observed.divergences).mean()
    if observed.features is not None:
        easy, boundary = divergence_within_classes(observed.features.flatten(1), classes, options.margin)
        loss = loss + options.easy_positive * easy + options.boundary * boundary
    return loss


def total_variation(images: Tensor) -> Tensor:
    """Root mean square of the differences between neighbors, diagonal ones too. Shapes: [B, C, H, W] -> scalar."""
    right, down = images[..., :, 1:] - images[..., :, :-1], images[..., 1:, :] - images[..., :-1, :]
    falling, rising = images[..., 1:, 1:] - images[..., :-1, :-1], images[..., 1:, :-1] - images[..., :-1, 1:]
    return torch.stack([each.square().mean() for each in (right, down, falling, rising)]).mean().add(1e-8).sqrt()


def moment_divergence(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """KL divergence of N(mean, variance) of the batch from that of the norm's running statistics, mean over channels.

    It replaces DeepInversion's differences of moments (equation 4), which grow with the scale of a layer: layers with
    large values would dominate. Shapes: [B, C] or [B, C, H, W] -> scalar.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    var, mean = torch.var_mean(x, [axis for axis in range(x.dim()) if axis != 1], correction=0)
    known = norm.running_var + norm.eps
    ratio = (var + norm.eps) / known
    return 0.5 * (ratio - 1 - ratio.log() + (mean - norm.running_mean).square() / known).mean()


def divergence_within_classes(features: Tensor, classes: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """The two terms of the boundary-preserving intra-divergence loss (arXiv 2204.12997, section 3.4).

    The first keeps each image away from the nearest one of its class (its easy positive): the mean of the reciprocal
    distances, which near-duplicates dominate. The second keeps it on its side of the boundary: the farthest one of its
    class (hard positive) may be farther than the nearest one of another class (hard negative) by no more than -margin.
    Distances are Euclidean, in units of the mean over the batch. Both are 0 where a class has one image, or where there
    is one class. Shapes: [B, C] and [B] -> two scalars.
    """
    others = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    distances = (features[:, None] - features[None]).square().sum(2).add(1e-12).sqrt()
    distances = distances / distances[others].mean().detach()
    alike = classes[:, None] == classes[None]
    positive, negative = alike & others, ~alike
    nearest = distances.masked_fill(~positive, math.inf).amin(1)
    farthest = distances.masked_fill(~positive, -math.inf).amax(1)
    nearest_negative = distances.masked_fill(~negative, math.inf).amin(1)
    zero = features.sum() * 0
    paired, bounded = positive.any(1), positive.any(1) & negative.any(1)
    easy = (1 / (nearest[paired] + 1e-3)).mean() if paired.any() else zero
    boundary = F.relu(farthest - nearest_negative + margin)[bounded].mean() if bounded.any() else zero
    return easy, boundary


@contextmanager
def _observed(model: nn.Module) -> Iterator[_Observed]:
    observed = _Observed()

    def norm_hook(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
        observed.divergences.append(moment_divergence(norm, inputs[0]))

    def linear_hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        observed.features = inputs[0]

    norms = [(layer, norm_hook) for layer in model.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    linears = [(layer, linear_hook) for layer in model.modules() if isinstance(layer, nn.Linear)]
    with forward_hooks(before=[*norms, *linears]):
        yield observed


def _classes(count: int, num_classes: int, generator: torch.Generator) -> Tensor:
    """Random classes in random order, as few as give each about four images."""
    drawn = torch.randperm(num_classes, generator=generator)[: max(1, count // _IMAGES_OF_A_CLASS)]
    return drawn[torch.arange(count) % len(drawn)][torch.randperm(count, generator=generator)]


def _first_guess(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Mostly gray noise with the amplitude spectrum of photographs, 1/f: [count, 3, H, W] in [0, 1].

    Field, "Relations between the statistics of natural images", J. Opt. Soc. Am. A 4 (1987).
    """
    height, width = size
    rows, columns = torch.fft.fftfreq(height)[:, None] * height, torch.fft.rfftfreq(width)[None] * width
    amplitude = 1 / (rows.square() + columns.square()).sqrt().clamp(min=1)
    white = torch.randn(count, 4, height, width, generator=generator)
    pink = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=size)
    pink = pink / pink.std((2, 3), keepdim=True)
    strength = 0.1 + 0.2 * torch.rand(count, 1, 1, 1, generator=generator)
    middle = 0.5 + 0.15 * torch.randn(count, 1, 1, 1, generator=generator)
    return (middle + strength * (0.9 * pink[:, :1] + 0.4 * pink[:, 1:])).clamp(0, 1)


def _enlarged(canvas: Tensor, size: tuple[int, int]) -> Tensor:
    """Coarse pixels resized to the input size of the network, in [0, 1]."""
    return canvas if canvas.shape[2:] == size else F.interpolate(canvas, size, mode="bicubic").clamp(0, 1)


def _jittered(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """All images shifted by the same few pixels, and half of the time mirrored, against overfitting single pixels."""
    rows, columns = (
        int(torch.randint(-round(side * _JITTER), round(side * _JITTER) + 1, (), generator=generator))
        for side in pixels.shape[-2:]
    )
    shifted = pixels.roll((rows, columns), (2, 3))
    return shifted.flip(3) if torch.rand((), generator=generator) < 0.5 else shifted
