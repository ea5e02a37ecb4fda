"""Cascaded group attention written out on tokens, with q, k and v of each head from linears of their own.

A 1x1 convolution of a map is a linear of its positions, and q, k and v are rows of one. With s = 1 / sqrt(key_dim),
softmax(s t(q) k^T + bias) v  ==  softmax(t'(q) k^T + bias) v, where t is the depthwise convolution that mixes the
queries of a window, and t' has its weight and bias times s. Groups of channels are slices, the bias is gathered from
its table once, here, and nothing exceeds rank 4. A token alone attends to itself: the softmax of one score is 1, and
the answer is v.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment.linears import linear
from mobilevit_sdk.deployment.products import batch_axes, batched_product
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import CascadedGroupAttention, ConvNormAct
from mobilevit_sdk.layers.cascaded_attention import check_map_fills_window


class ExplicitCascadedAttention(nn.Module):
    """The inference form of `CascadedGroupAttention`, with products of `product_rank` 3 or 4.

    Shapes: [B, dim, H, W] -> [B, dim, H, W].
    """

    def __init__(self, attention: CascadedGroupAttention, product_rank: int) -> None:
        super().__init__()
        self.window_size = attention.window_size
        self.partition = attention.partition
        self.value_dim = attention.value_dim
        self.positions = attention.positions
        self.heads = nn.ModuleList(ExplicitHead(attention, i, product_rank) for i in range(len(attention.positions)))
        self.proj = linear(attention.proj.conv)
        self.reverse = attention.reverse

    def forward(self, x: Tensor) -> Tensor:
        check_map_fills_window(x, self.window_size)
        maps = x.permute(0, 2, 3, 1)  # [B, H, W, dim]
        windows = self.partition(maps)  # [B * windows, N, dim]
        width = self.value_dim
        answers: list[Tensor] = []
        for before, i, head in zip((None, *self.positions), self.positions, self.heads, strict=False):
            group = windows[..., i * width : (i + 1) * width]
            answers.append(head(group + answers[-1] if before == i - 1 else group))
        answer = torch.cat(answers, -1) if len(answers) > 1 else answers[0]
        out: Tensor = self.reverse(self.proj(F.relu(answer)), maps.shape).permute(0, 3, 1, 2)
        return out


class ExplicitHead(nn.Module):
    """Of the heads, the one at `index`, on the channels of its group. Shapes: [windows, N, d] -> [windows, N, d]."""

    bias: Tensor

    def __init__(self, attention: CascadedGroupAttention, index: int, product_rank: int) -> None:
        super().__init__()
        self.product_rank = product_rank
        position = str(attention.positions[index])
        qkv, token_interaction = attention.qkv[position], attention.token_interaction[position]
        assert isinstance(qkv, ConvNormAct)
        assert isinstance(token_interaction, ConvNormAct)
        key_dim = attention.key_dim
        self.window_size = attention.window_size
        self.q = linear(qkv.conv, slice(0, key_dim))
        self.k = linear(qkv.conv, slice(key_dim, 2 * key_dim))
        self.v = linear(qkv.conv, slice(2 * key_dim, None))
        self.token_interaction = _scaled(token_interaction.conv, key_dim**-0.5)
        bias = attention.position_bias()[index].detach()  # [N, N]
        self.register_buffer("bias", bias.view(*batch_axes(1, 1, product_rank), *bias.shape))

    def forward(self, x: Tensor) -> Tensor:
        windows, tokens, _ = x.shape
        v: Tensor = self.v(x)
        if tokens == 1:
            return v
        axes = batch_axes(windows, 1, self.product_rank)
        q = self.token_interaction(self._map(self.q(x))).permute(0, 2, 3, 1).reshape(*axes, tokens, -1)
        k = self.k(x).view(windows, tokens, 1, -1).permute(0, 2, 3, 1).reshape(*axes, -1, tokens)
        scores = batched_product(q, k) + self.bias
        return batched_product(scores.softmax(-1), v.reshape(*axes, tokens, -1)).view(v.shape)

    def _map(self, tokens: Tensor) -> Tensor:
        """[windows, N, key_dim] -> [windows, key_dim, w, w]."""
        return tokens.view(-1, self.window_size, self.window_size, tokens.shape[-1]).permute(0, 3, 1, 2)


def explicit_cascaded_attention(network: nn.Module, product_rank: int) -> None:
    """Replace every CascadedGroupAttention by its explicit form with products of `product_rank` 3 or 4, in place.

    Its BatchNorms must be folded before.
    """
    replace_layers(network, CascadedGroupAttention, lambda layer: ExplicitCascadedAttention(layer, product_rank))


@torch.no_grad()
def _scaled(conv: nn.Conv2d, scale: float) -> nn.Conv2d:
    scaled = copy.deepcopy(conv)
    for parameter in scaled.parameters():
        parameter.mul_(scale)
    return scaled
