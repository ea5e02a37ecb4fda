"""Classifiers that read a token each, and the mean of their answers, as one linear layer.

(W1 x1 + b1 + W2 x2 + b2) / 2  ==  [W1 | W2] / 2 (x1, x2) + (b1 + b2) / 2: of the tokens one after the other. A norm's
gain and bias, the same for each token, can then go into it. The sums are taken in float64 and rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import TokenClassifier


class JoinedClassifier(nn.Module):
    """The inference form of `TokenClassifier`. Shapes: [B, p, C] -> [B, num_classes]."""

    def __init__(self, classifier: TokenClassifier) -> None:
        super().__init__()
        self.linear = joined([each for each in (classifier.linear, classifier.linear_dist) if each is not None])

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(x.reshape(x.shape[0], -1))
        return scores


def join_token_classifiers(network: nn.Module) -> None:
    """Replace every TokenClassifier by its form of one linear, in place."""
    replace_layers(network, TokenClassifier, JoinedClassifier)


@torch.no_grad()
def joined(linears: list[nn.Linear]) -> nn.Linear:
    """The linear layer that answers with the mean of what these answer to parts of its input, one after the other."""
    count, dtype = len(linears), linears[0].weight.dtype
    one = nn.Linear(count * linears[0].in_features, linears[0].out_features, dtype=dtype)
    one.weight.copy_(torch.cat([each.weight.double() for each in linears], 1) / count)
    one.bias.copy_(torch.stack([each.bias.double() for each in linears]).sum(0) / count)
    return one
