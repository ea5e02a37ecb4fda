"""GELU for a backend whose operator of that name is the tanh approximation, whatever the graph asks for.

gelu(x) == x * Phi(x) == x * sigmoid(l(x)) with l = logit(Phi), an odd function. `COEFFICIENTS` are those of an odd
polynomial in place of l, fitted to the least largest error of the product over -8 <= x <= 8 and monotonic everywhere:
7e-8 off at most, which is float32's own rounding. The tanh approximation is 4.7e-4 off, float16's rounding.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layers

# Of x, x^3, ... x^13.
COEFFICIENTS = (
    1.59576854,
    0.0726682980,
    -6.60532141e-5,
    -1.10546830e-4,
    7.94814915e-6,
    -2.67566868e-7,
    3.62786502e-9,
)


class PolynomialGELU(nn.Module):
    """GELU without the operator, for float32. Shapes: any -> the same."""

    def __init__(self) -> None:
        super().__init__()
        for power, value in enumerate(COEFFICIENTS):  # tensors: with numbers it would be other operators
            self.register_buffer(f"c{power}", torch.tensor([value], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        square = x * x
        *others, highest = (self.get_buffer(f"c{power}") for power in range(len(COEFFICIENTS)))
        logit = highest
        for coefficient in reversed(others):
            logit = logit * square + coefficient
        return x * torch.sigmoid(logit * x)


def gelus_as_polynomials(network: nn.Module) -> None:
    """Replace every exact GELU, in place."""
    replace_layers(
        network, nn.GELU, lambda gelu: PolynomialGELU() if gelu.approximate == "none" else copy.deepcopy(gelu)
    )


def gelus_as_tanh(network: nn.Module) -> None:
    """Replace every PolynomialGELU by the tanh approximation, in place: in float16 both are as exact."""
    replace_layers(network, PolynomialGELU, lambda _: nn.GELU(approximate="tanh"))
