"""Cascaded group attention on maps, for backends that multiply transposed matrices where they are.

A 1x1 convolution makes q, k and v of a window as [d, N]. With the scores p = softmax((s q)^T k + bias), the answer is
v p^T, so no token is ever moved. The scale s = 1 / sqrt(key_dim) commutes with the depthwise convolution that mixes the
queries of a window, and is in its weights. The bias is gathered from its table once, here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Size, Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import CascadedGroupAttention, ConvNormAct
from mobilevit_sdk.layers.cascaded_attention import check_map_fills_window


class MapCascadedAttention(nn.Module):
    """The inference form of `CascadedGroupAttention`, for one image. Shapes: [1, dim, H, W] -> [1, dim, H, W]."""

    def __init__(self, attention: CascadedGroupAttention) -> None:
        super().__init__()
        self.window_size = attention.window_size
        self.value_dim = attention.value_dim
        self.positions = attention.positions
        self.heads = nn.ModuleList(MapHead(attention, index) for index in range(len(attention.positions)))
        self.proj = attention.proj.conv

    def forward(self, x: Tensor) -> Tensor:
        check_map_fills_window(x, self.window_size)
        answers: list[Tensor] = []
        groups = torch.split(cut_windows(x, self.window_size), self.value_dim, 1)
        for before, i, head in zip((None, *self.positions), self.positions, self.heads, strict=False):
            answers.append(head(groups[i] + answers[-1] if before == i - 1 else groups[i]))
        answer = torch.cat(answers, 1) if len(answers) > 1 else answers[0]
        return join_windows(self.proj(F.relu(answer)), x.shape)


class MapHead(nn.Module):
    """Of the heads, the one at `index`, on the channels of its group. Shapes: [windows, d, w, w] -> the same."""

    bias: Tensor

    def __init__(self, attention: CascadedGroupAttention, index: int) -> None:
        super().__init__()
        position = str(attention.positions[index])
        qkv, token_interaction = attention.qkv[position], attention.token_interaction[position]
        assert isinstance(qkv, ConvNormAct)
        assert isinstance(token_interaction, ConvNormAct)
        self.widths = [attention.key_dim, attention.key_dim, attention.value_dim]
        self.qkv, self.token_interaction = qkv.conv, token_interaction.conv
        _scale(self.token_interaction, attention.key_dim**-0.5)
        self.register_buffer("bias", attention.position_bias()[index].detach()[None])  # [1, N, N]

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = torch.split(self.qkv(x), self.widths, 1)
        q, k, v = (each.flatten(2) for each in (self.token_interaction(q), k, v))  # [windows, d, N]
        scores = torch.bmm(q.transpose(1, 2), k) + self.bias
        return torch.bmm(v, scores.softmax(-1).transpose(1, 2)).view(x.shape)


def cut_windows(x: Tensor, w: int) -> Tensor:
    """[1, C, H, W] -> [windows, C, w, w], padded with zeros to whole windows."""
    _, channels, height, width = x.shape
    rows, columns = -(-height // w), -(-width // w)
    if (rows * w, columns * w) != (height, width):
        x = F.pad(x, (0, columns * w - width, 0, rows * w - height))
    if rows * columns == 1:
        return x
    x = x.reshape(channels * rows, w, columns, w).permute(2, 0, 1, 3)  # -> [nw, C nh, w, w]
    x = x.reshape(columns, channels, rows, w * w).permute(2, 0, 1, 3)  # -> [nh, nw, C, w w]
    return x.reshape(rows * columns, channels, w, w)


def join_windows(windows: Tensor, size: Size) -> Tensor:
    """[windows, C, w, w] -> `size` (1, C, H, W), without the padding."""
    _, channels, height, width = size
    w = windows.shape[-1]
    rows, columns = -(-height // w), -(-width // w)
    if rows * columns > 1:
        x = windows.reshape(rows, columns, channels, w * w).permute(1, 2, 0, 3)  # -> [nw, C, nh, w w]
        windows = x.reshape(columns, channels * rows, w, w).permute(1, 2, 0, 3)  # -> [C nh, w, nw, w]
    x = windows.reshape(1, channels, rows * w, columns * w)
    return x if (rows * w, columns * w) == (height, width) else x[..., :height, :width]


@torch.no_grad()
def _scale(conv: nn.Conv2d, scale: float) -> None:
    for parameter in conv.parameters():
        parameter.mul_(scale)


def cascaded_attention_on_maps(network: nn.Module) -> None:
    """Replace every CascadedGroupAttention by its form on maps, in place; BatchNorms must be folded before."""
    replace_layers(network, CascadedGroupAttention, MapCascadedAttention)
