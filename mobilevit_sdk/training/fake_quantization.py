"""Integer arithmetic simulated in training, so that the network adapts to it (Jacob et al., arXiv 1712.05877)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.formats.ranges import RangeEstimator
from mobilevit_sdk.layers import ConvNormAct
from mobilevit_sdk.layers.hooks import forward_hooks
from mobilevit_sdk.layers.traits import HasNormReaders
from mobilevit_sdk.quantization.simulation import LEVELS, round_activations, round_weights, weight_bits
from mobilevit_sdk.recipe import QuantizationAware

_KINDS = {nn.Conv2d: "convolution", nn.Linear: "linear"}


class FakeQuantization(nn.Module):
    """Runs a network with the weights, inputs and outputs of its convolutions and linears rounded as in the phone file.

    Weights have a scale for each output channel, or group of inputs, and no zero point. A BatchNorm after a convolution
    also scales by output channel, so rounding gives the same values before it is folded and after. Gain and bias of a
    LayerNorm or GroupNorm whose declared reader has a bias are applied within that reader, as in the phone graph.
    Inputs and outputs of layers are rounded to 256 levels, outputs after the BatchNorm and the ReLU that the phone
    fuses into the layer. `calibrate` finds their ranges exactly as a conversion does; learned ranges would be lost
    there. Scores stay float, and so do sums that no layer reads. The network itself is not changed; its gradients pass
    through the rounding (straight-through estimator, Bengio et al., arXiv 1308.3432), except where a value was clipped.
    """

    bounds: Tensor

    def __init__(self, model: nn.Module, how: QuantizationAware) -> None:
        super().__init__()
        self.how = how
        self.paths = tuple(_quantized(model, how.quantization))
        self.outputs = tuple(_written_at(model, path) for path in self.paths)
        path_of = {module: path for path, module in model.named_modules()}
        self.readers = tuple(
            (path_of[use.norm], path_of[use.reader])
            for block in model.modules()
            if isinstance(block, HasNormReaders)
            for use in block.norm_readers()
            if use.reader.bias is not None
        )
        # (low, high) of the inputs of all layers, then of their outputs
        self.register_buffer("bounds", torch.zeros(2 * len(self.paths), 2))

    @torch.no_grad()
    def calibrate(self, model: nn.Module, batches: Iterable[Tensor]) -> None:
        """Find the ranges around the layers of `model`, in eval mode, over batches of model inputs [B, 3, H, W]."""
        estimators = [RangeEstimator(self.how.quantization) for _ in self.bounds]

        def observer(index: int) -> Callable[[Tensor], Tensor]:
            def observe(x: Tensor) -> Tensor:
                estimators[index].observe(x.float().cpu().numpy())
                return x

            return observe

        for batch in batches:
            self._run(model, batch, self._weights(model, rounded=False), observer)
        ranges = [each.range() if each.seen else (0.0, 0.0) for each in estimators]
        self.bounds.copy_(torch.tensor(ranges).view(-1, 2))

    def forward(self, model: nn.Module, x: Tensor) -> Any:
        """What `model` answers in simulated integers, scores [B, num_classes]: [B, 3, H, W] -> the same."""
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
        change_of: Callable[[int], Callable[[Tensor], Tensor]],
    ) -> Any:
        count = len(self.paths) if self.how.precision == "int8" else 0
        readers, writers = ([model.get_submodule(path) for path in each[:count]] for each in (self.paths, self.outputs))
        with forward_hooks(
            before=[(layer, _at_input(change_of(index))) for index, layer in enumerate(readers)],
            after=[(layer, _at_output(change_of(count + index))) for index, layer in enumerate(writers)],
        ):
            return functional_call(model, weights, (x,))

    def _weights(self, model: nn.Module, *, rounded: bool) -> dict[str, Tensor]:
        """Replacements for the parameters of the same names."""
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
            for path in self.paths:
                name = f"{path}.weight"
                weight = instead.get(name, parameters[name])
                group_size = self.how.quantization.group_size
                bits = weight_bits(weight, self.how.precision, group_size)
                instead[name] = fake_weights(weight, bits, group_size)
        return instead


def fake_weights(weight: Tensor, bits: int, group_size: int) -> Tensor:
    """`round_weights` with the gradient of the identity."""
    return weight + (round_weights(weight.detach(), bits, group_size) - weight.detach())


def fake_activations(x: Tensor, low: float, high: float) -> Tensor:
    """`round_activations` with the gradient of clipping to the range: low <= 0 <= high, not both 0."""
    scale = (high - low) / LEVELS
    zero = round(-low / scale)
    clipped = x.clamp(-zero * scale, (LEVELS - zero) * scale)
    return clipped + (round_activations(x.detach(), low, high) - clipped.detach())


def _at_input(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor]]:
    return lambda layer, inputs: (change(inputs[0]),)


def _at_output(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """Scores, the only outputs of rank 2, are not changed."""
    return lambda layer, inputs, output: output if output.dim() == 2 else change(output)


def _written_at(model: nn.Module, path: str) -> str:
    """The path of the last module that the phone fuses with the one at `path`."""
    parent, _, name = path.rpartition(".")
    around = model.get_submodule(parent)
    if not isinstance(around, ConvNormAct) or name != "conv":
        return path
    return f"{parent}.activation" if isinstance(around.activation, nn.ReLU) else f"{parent}.norm"


def _quantized(model: nn.Module, recipe: QuantizationRecipe) -> Iterable[str]:
    """Paths of the layers that the recipe turns into integers."""
    for path, layer in model.named_modules():
        kind = _KINDS.get(type(layer))
        if kind in recipe.operators and not recipe.keeps_float(path):
            yield path
