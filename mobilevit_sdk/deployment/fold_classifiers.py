"""A classifier that starts with a BatchNorm, or the mean of two such, as one linear layer.

A BatchNorm goes into the linear layer after it: with gain = gamma / sqrt(var + eps), W norm(x) + b  ==
W diag(gain) x + W (beta - mean * gain) + b. The mean of two linear layers is one: (W1 x + b1 + W2 x + b2) / 2  ==
(W1 + W2) / 2 x + (b1 + b2) / 2. The products are taken in float64 and rounded once to the network's own type.
"""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import BatchNormClassifier


def fold_classifiers(network: nn.Module) -> None:
    """Replace every BatchNormClassifier by one linear layer, in place; the network must be in eval mode."""
    replace_layers(network, BatchNormClassifier, fold_classifier)


def fold_classifier(classifier: BatchNormClassifier) -> nn.Linear:
    """One linear layer that answers as the classifier does in eval mode."""
    folded = fold_batch_norm_into_next(classifier.norm, classifier.linear)
    if classifier.norm_dist is not None and classifier.linear_dist is not None:
        folded = mean_of_linears(folded, fold_batch_norm_into_next(classifier.norm_dist, classifier.linear_dist))
    return folded.to(classifier.linear.weight.dtype)


@torch.no_grad()
def fold_batch_norm_into_next(norm: nn.BatchNorm1d, linear: nn.Linear) -> nn.Linear:
    """Fold an inference-time BatchNorm into the linear layer after it; the result is in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight = linear.weight.double()
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    folded = nn.Linear(linear.in_features, linear.out_features, dtype=torch.float64)
    folded.weight.copy_(weight * gain)
    folded.bias.copy_(weight @ (norm.bias.double() - norm.running_mean.double() * gain) + linear.bias.double())
    return folded


@torch.no_grad()
def mean_of_linears(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """The linear layer that answers with the mean of both."""
    mean = nn.Linear(first.in_features, first.out_features, dtype=first.weight.dtype)
    mean.weight.copy_((first.weight + second.weight) / 2)
    mean.bias.copy_((first.bias + second.bias) / 2)
    return mean
