"""ViT's tokens in the layout [1, C, 1, N]: its blocks, norms and heads on them.

The heads read their tokens one after the other, W (x1, x2): a convolution whose kernel is as wide as there are tokens.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.channels_first.constant_query import ChannelsFirstQueryPool
from mobilevit_sdk.deployment.channels_first.norm import ChannelsFirstNorm
from mobilevit_sdk.deployment.channels_first.patches import ChannelsFirstBlock
from mobilevit_sdk.deployment.join_tasks import TaskHeads
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.deployment.token_classifier import JoinedClassifier
from mobilevit_sdk.layers import (
    AttentionPool,
    FirstTokens,
    LastTokens,
    PatchMap,
    PatchTokens,
    PreLogits,
    TokenMean,
    TransformerBlock,
)


class ChannelsFirstClassifier(nn.Module):
    """The form of `JoinedClassifier` here. Shapes: [1, C, 1, p] -> [1, num_classes]."""

    @torch.no_grad()
    def __init__(self, linear: nn.Linear, dim: int) -> None:
        super().__init__()
        count = linear.in_features // dim
        self.conv = nn.Conv2d(dim, linear.out_features, (1, count), dtype=linear.weight.dtype)
        self.conv.weight.copy_(linear.weight.view(-1, count, dim).transpose(1, 2)[:, :, None])
        self.conv.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(1)


class ChannelsFirstPreLogits(nn.Module):
    """The form of `PreLogits` here. Shapes: [1, C, 1, p] -> [1, D, 1, p]."""

    def __init__(self, layer: PreLogits) -> None:
        super().__init__()
        self.conv = ChannelsFirstClassifier(layer.linear, layer.linear.in_features).conv

    def forward(self, x: Tensor) -> Tensor:
        representation: Tensor = self.conv(x).tanh()
        return representation


class ChannelsFirstTaskHeads(nn.Module):
    """The form of `TaskHeads` here. Shapes: [1, C, 1, tasks + p] -> [1, classes] of each."""

    def __init__(self, heads: TaskHeads, dim: int) -> None:
        super().__init__()
        self.own = ChannelsFirstClassifier(heads.own.linear, dim)
        tasks = (ChannelsFirstClassifier(cast("nn.Linear", head), dim) for head in heads.tasks)
        self.tasks = nn.ModuleList(tasks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        heads = enumerate(self.tasks)
        return (self.own(x[..., len(self.tasks) :]), *(head(x[..., i : i + 1]) for i, head in heads))


class ChannelsFirstFirstTokens(nn.Module):
    """The form of `FirstTokens` here. Shapes: [1, C, 1, N] -> [1, C, 1, count]."""

    def __init__(self, first: FirstTokens) -> None:
        super().__init__()
        self.count = first.count

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :, : self.count]


class ChannelsFirstLastTokens(nn.Module):
    """The form of `LastTokens` here. Shapes: [1, C, 1, N] -> [1, C, 1, N - count]."""

    def __init__(self, last: LastTokens) -> None:
        super().__init__()
        self.count = last.count

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :, self.count :]


class ChannelsFirstPatchMap(nn.Module):
    """The form of `PatchMap` here. Shapes: [1, C, 1, N] -> [1, C, h, w]."""

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return x[:, :, :, x.shape[3] - grid[0] * grid[1] :].reshape(1, x.shape[1], *grid)


class ChannelsFirstTokenMean(nn.Module):
    """The form of `TokenMean` here. Shapes: [1, C, 1, p] -> [1, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True).flatten(1)


def image_tokens_channels_first(network: nn.Module) -> None:
    """Replace what works on the tokens of a PatchTokens beside it, in place; `pad_tokens` makes them in this layout.

    What stands beside it does so in the order in which it runs: a norm behind a pool sees no tokens.
    """
    for parent in list(network.modules()):
        tokens = [child for child in parent.children() if type(child) is PatchTokens]
        if not tokens:
            continue
        pooled, dim = False, tokens[0].conv.out_channels
        for name, child in list(parent.named_children()):
            pooled |= type(child) in (AttentionPool, TokenMean)
            if type(child) is nn.Sequential:
                replace_layers(child, TransformerBlock, ChannelsFirstBlock)
            elif type(child) is nn.LayerNorm and not pooled:
                setattr(parent, name, ChannelsFirstNorm(child))
            elif type(child) is FirstTokens:
                setattr(parent, name, ChannelsFirstFirstTokens(child))
            elif type(child) is LastTokens:
                setattr(parent, name, ChannelsFirstLastTokens(child))
            elif type(child) is AttentionPool:
                setattr(parent, name, ChannelsFirstQueryPool(child))
            elif type(child) is PreLogits:
                setattr(parent, name, ChannelsFirstPreLogits(child))
                dim = child.linear.out_features
            elif type(child) is JoinedClassifier:
                setattr(parent, name, ChannelsFirstClassifier(child.linear, dim))
            elif type(child) is TaskHeads:
                setattr(parent, name, ChannelsFirstTaskHeads(child, dim))
            elif type(child) is PatchMap:
                setattr(parent, name, ChannelsFirstPatchMap())
            elif type(child) is TokenMean:
                setattr(parent, name, ChannelsFirstTokenMean())
