"""BatchNorm statistics measured again: with fewer channels before them, layers see other means and variances."""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.layers import FrozenBatchNorm2d
from mobilevit_sdk.pruning.images import PruningImages

_BATCH_SIZE = 128


@torch.no_grad()
def measure_statistics(model: nn.Module, images: PruningImages) -> None:
    """Replace the running statistics of every BatchNorm, in place, by the means of those of batches of `images`.

    Frozen norms stay as they are, and all other layers in eval mode. A last batch of one image is left out: it has no
    variance.
    """
    norms = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and not isinstance(layer, FrozenBatchNorm2d)
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    training = model.training
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for batch, _ in images.batches(_BATCH_SIZE, next(model.parameters()).dtype):
        if len(batch) > 1:
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)
