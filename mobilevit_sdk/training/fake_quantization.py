"""Integers simulated while a network trains, so that it learns to live with them (Jacob et al., arXiv 1712.05877)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mobilevit_sdk.layers.declarations import DeclaresNormReaders
from mobilevit_sdk.quantization.ranges import RangeEstimator
from mobilevit_sdk.quantization.recipe import QuantizationRecipe
from mobilevit_sdk.quantization.simulation import LEVELS, round_activations, round_weights
from mobilevit_sdk.training.recipe import QuantizationAware

_KINDS = {nn.Conv2d: "convolution", nn.Linear: "linear"}


class FakeQuantization(nn.Module):
    """Runs a network with what its convolutions and linears hold and read rounded as the phone file will round it.

    Weights have a scale for each output channel, or group of inputs, and no zero point. A BatchNorm after a convolution
    scales by output channel as well, so that rounding before it is folded and after are the same. Gain and bias of a
    LayerNorm or GroupNorm whose declared reader has a bias act within that reader, as in the phone graph. What layers
    read is rounded to 256 levels over ranges that `calibrate` finds just as a conversion will: ranges that were learned
    would be lost there. The network itself stays as it is; its gradients pass through the rounding (straight-through
    estimator, Bengio et al., arXiv 1308.3432), but not where a value was clipped.
    """

    bounds: Tensor

    def __init__(self, model: nn.Module, how: QuantizationAware) -> None:
        super().__init__()
        self.how = how
        self.paths = tuple(_quantized(model, how.quantization))
        path_of = {module: path for path, module in model.named_modules()}
        self.readers = tuple(
            (path_of[use.norm], path_of[use.reader])
            for block in model.modules()
            if isinstance(block, DeclaresNormReaders)
            for use in block.norm_readers()
            if use.reader.bias is not None
        )
        self.register_buffer("bounds", torch.zeros(len(self.paths), 2))  # low and high of what each layer reads

    @torch.no_grad()
    def calibrate(self, model: nn.Module, batches: Iterable[Tensor]) -> None:
        """Find the ranges of what the layers of `model`, in eval mode, read; [B, 3, H, W] as the model takes them."""
        estimators = [RangeEstimator(self.how.quantization) for _ in self.paths]

        def observer(index: int) -> Callable[[Tensor], Tensor]:
            def observe(x: Tensor) -> Tensor:
                estimators[index].observe(x.float().cpu().numpy())
                return x

            return observe

        for batch in batches:
            self._run(model, batch, self._weights(model, rounded=False), observer)
        ranges = [each.range() if each.seen else (0.0, 0.0) for each in estimators]
        self.bounds.copy_(torch.tensor(ranges).view(-1, 2))

    def forward(self, model: nn.Module, x: Tensor) -> Tensor:
        """What `model` answers in integers: [B, 3, H, W] -> [B, num_classes]."""
        ranges = self.bounds.tolist()

        def rounder(index: int) -> Callable[[Tensor], Tensor]:
            low, high = ranges[index]
            return lambda x: fake_activations(x, low, high) if low < high else x

        return self._run(model, x, self._weights(model, rounded=True), rounder)

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        weights: dict[str, Tensor],
        at_input: Callable[[int], Callable[[Tensor], Tensor]],
    ) -> Tensor:
        hooks = []
        if self.how.precision == "int8":
            for index, path in enumerate(self.paths):
                change = at_input(index)
                layer = model.get_submodule(path)
                hooks.append(layer.register_forward_pre_hook(lambda _, inputs, change=change: (change(inputs[0]),)))
        try:
            scores: Tensor = functional_call(model, weights, (x,))
            return scores
        finally:
            for hook in hooks:
                hook.remove()

    def _weights(self, model: nn.Module, *, rounded: bool) -> dict[str, Tensor]:
        """What stands in for the parameters of the same names."""
        instead: dict[str, Tensor] = {}
        parameters: dict[str, Tensor] = dict(model.named_parameters())
        for norm, reader in self.readers:
            gain, shift = parameters[f"{norm}.weight"], parameters[f"{norm}.bias"]
            weight, bias = parameters[f"{reader}.weight"], parameters[f"{reader}.bias"]
            rows = weight.flatten(1)
            instead[f"{norm}.weight"], instead[f"{norm}.bias"] = torch.ones_like(gain), torch.zeros_like(shift)
            instead[f"{reader}.weight"] = (rows * gain).view_as(weight)
            instead[f"{reader}.bias"] = bias + rows @ shift
        if rounded:
            bits = 4 if self.how.precision == "int4-weight" else 8
            for path in self.paths:
                name = f"{path}.weight"
                weight = instead.get(name, parameters[name])
                instead[name] = fake_weights(weight, bits, self.how.quantization.group_size)
        return instead


def fake_weights(weight: Tensor, bits: int, group_size: int) -> Tensor:
    """`round_weights` with the gradient of the identity."""
    return weight + (round_weights(weight.detach(), bits, group_size) - weight.detach())


def fake_activations(x: Tensor, low: float, high: float) -> Tensor:
    """`round_activations` with the gradient of clipping to its ends: low <= 0 <= high, not both 0."""
    scale = (high - low) / LEVELS
    zero = round(-low / scale)
    clipped = x.clamp(-zero * scale, (LEVELS - zero) * scale)
    return clipped + (round_activations(x.detach(), low, high) - clipped.detach())


def _quantized(model: nn.Module, recipe: QuantizationRecipe) -> Iterable[str]:
    """Paths of the layers that the recipe turns into integers."""
    for path, layer in model.named_modules():
        kind = _KINDS.get(type(layer))
        if kind in recipe.operators and not recipe.keeps_float(path):
            yield path
