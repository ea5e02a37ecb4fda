"""Cascaded group attention on channels-first windows [1, C, P, N].

Everything but token interaction is a 1x1 convolution or an attention of its own (see `attention`). Token interaction, a
depthwise convolution within each of P windows, is one over C P channels whose kernels stand P times in a row: the
windows of a channel are neighbors in memory, so [1, C, P, N] is [1, C P, w, w] without a move. s t(q), with the scale
s = 1 / sqrt(key_dim), is t'(q) with the weight and bias of t times s.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment.channels_first.attention import attend, transposed_bias
from mobilevit_sdk.deployment.channels_first.pointwise import convolution
from mobilevit_sdk.deployment.channels_first.windows import ChannelsFirstWindowReverse, ChannelsFirstWindows
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import CascadedGroupAttention, ConvNormAct
from mobilevit_sdk.layers.cascaded_attention import check_map_fills_window


class ChannelsFirstCascadedAttention(nn.Module):
    """The inference form of `CascadedGroupAttention` for one image. Shapes: [1, dim, H, W] -> [1, dim, H, W]."""

    def __init__(self, attention: CascadedGroupAttention) -> None:
        super().__init__()
        self.window_size = attention.window_size
        self.value_dim = attention.value_dim
        self.partition = ChannelsFirstWindows(attention.window_size)
        self.positions = attention.positions
        self.heads = nn.ModuleList(ChannelsFirstHead(attention, index) for index in range(len(attention.positions)))
        self.proj = attention.proj.conv
        self.reverse = ChannelsFirstWindowReverse(attention.window_size)

    def forward(self, x: Tensor) -> Tensor:
        check_map_fills_window(x, self.window_size)
        answers: list[Tensor] = []
        groups = self.partition(x).split(self.value_dim, 1)
        for before, i, head in zip((None, *self.positions), self.positions, self.heads, strict=False):
            answers.append(head(groups[i] + answers[-1] if before == i - 1 else groups[i]))
        answer = torch.cat(answers, 1) if len(answers) > 1 else answers[0]
        out: Tensor = self.reverse(self.proj(F.relu(answer)), x.shape)
        return out


class ChannelsFirstHead(nn.Module):
    """Of the heads, the one at `index`, on the channels of its group. Shapes: [1, d, P, N] -> [1, d, P, N]."""

    bias: Tensor

    def __init__(self, attention: CascadedGroupAttention, index: int) -> None:
        super().__init__()
        position = str(attention.positions[index])
        qkv, token_interaction = attention.qkv[position], attention.token_interaction[position]
        assert isinstance(qkv, ConvNormAct)
        assert isinstance(token_interaction, ConvNormAct)
        key_dim = attention.key_dim
        self.q = convolution(qkv.conv, slice(0, key_dim))
        self.k = convolution(qkv.conv, slice(key_dim, 2 * key_dim))
        self.v = convolution(qkv.conv, slice(2 * key_dim, None))
        self.token_interaction = WindowedDepthwise(token_interaction.conv, attention.window_size, key_dim**-0.5)
        self.register_buffer("bias", transposed_bias(attention.position_bias()[index : index + 1]))

    def forward(self, x: Tensor) -> Tensor:
        v: Tensor = self.v(x)
        if x.shape[3] == 1:
            return v
        q = self.token_interaction(self.q(x))
        return attend(q, self.k(x).permute(0, 3, 2, 1), v, self.bias)


class WindowedDepthwise(nn.Module):
    """A depthwise convolution within each square window, times `scale`. Shapes: [1, C, P, N] -> [1, C, P, N]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, window_size: int, scale: float) -> None:
        super().__init__()
        assert conv.bias is not None
        self.window_size = window_size
        self.padding = conv.padding
        self.register_buffer("weight", (conv.weight.detach().double() * scale).to(conv.weight.dtype))
        self.register_buffer("bias", (conv.bias.detach().double() * scale).to(conv.weight.dtype)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        _, channels, windows, _ = x.shape
        maps = channels * windows
        weight = torch.cat([self.weight] * windows, 1).reshape(maps, 1, *self.weight.shape[2:])
        bias = torch.cat([self.bias] * windows, 1).reshape(maps)
        y = x.reshape(1, maps, self.window_size, self.window_size)
        y = F.conv2d(y, weight, bias, padding=self.padding, groups=maps)
        return y.reshape(x.shape)


def cascaded_attention_channels_first(network: nn.Module) -> None:
    """Replace every CascadedGroupAttention by its channels-first form, in place; BatchNorms must be folded before."""
    replace_layers(network, CascadedGroupAttention, ChannelsFirstCascadedAttention)
