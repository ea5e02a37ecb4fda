"""Cascaded group attention (EfficientViT, arXiv 2305.07027, section 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.layers.conv import ConvNormAct
from mobilevit_sdk.layers.position_bias import PositionBias
from mobilevit_sdk.layers.windows import WindowPartition, WindowReverse


class CascadedGroupAttention(nn.Module):
    """Attention within windows, each head on its own group of channels plus the output of the head before.

    Figure 6c of the paper, equations 2 and 3. There is one head for each of `kernels`. In a head, queries and keys have
    `key_dim` channels and values have dim / num_heads. Queries pass a depthwise convolution within their window (token
    interaction), with the kernel size of their head. Shapes: [B, dim, H, W] -> [B, dim, H, W]; a map that is not a
    multiple of the window is padded with zeros, which take part in attention. Raises ValueError where the map is
    smaller than the window.

    With `positions`, only the heads there exist. The groups of the others are not read, and a head whose predecessor is
    missing starts the cascade again. Modules of heads are named by position.
    """

    def __init__(
        self,
        dim: int,
        window_size: int,
        *,
        key_dim: int,
        kernels: tuple[int, ...],
        positions: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        num_groups = len(kernels)
        if dim % num_groups:
            raise ValueError(f"dim {dim} is not divisible by num_heads {num_groups}")
        self.positions = tuple(range(num_groups)) if positions is None else positions
        self.num_groups = num_groups
        self.key_dim = key_dim
        self.value_dim = dim // num_groups
        self.window_size = window_size
        self.partition = WindowPartition(window_size)
        self.qkv = nn.ModuleDict()
        self.token_interaction = nn.ModuleDict()
        for i in self.positions:
            self.qkv[str(i)] = ConvNormAct(self.value_dim, 2 * key_dim + self.value_dim, 1, activation=None)
            queries = ConvNormAct(key_dim, key_dim, kernels[i], groups=key_dim, activation=None)
            self.token_interaction[str(i)] = queries
        self.position_bias = PositionBias(len(self.positions), window_size)
        self.proj = ConvNormAct(len(self.positions) * self.value_dim, dim, 1, activation=None)
        self.reverse = WindowReverse(window_size)
        nn.init.zeros_(self.proj.norm.weight)  # training starts from the identity

    def forward(self, x: Tensor) -> Tensor:
        check_map_fills_window(x, self.window_size)
        maps = x.permute(0, 2, 3, 1)  # [B, H, W, dim]
        channels, w = x.shape[1], self.window_size
        windows = self.partition(maps).transpose(1, 2).reshape(-1, channels, w, w)  # [.., N, dim] -> [.., dim, w, w]
        groups = windows.chunk(self.num_groups, 1)
        outputs: list[Tensor] = []
        for before, i, bias in zip((None, *self.positions), self.positions, self.position_bias(), strict=False):
            x = groups[i] + outputs[-1] if before == i - 1 else groups[i]
            q, k, v = self.qkv[str(i)](x).split((self.key_dim, self.key_dim, self.value_dim), 1)
            q = self.token_interaction[str(i)](q)
            q, k, v = (each.flatten(2).transpose(1, 2)[:, None] for each in (q, k, v))  # [.., d, w, w] -> [.., 1, N, d]
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # rank 4: torch.onnx takes nothing else
            outputs.append(attended.transpose(2, 3).reshape(x.shape))  # [.., 1, N, d] -> [.., d, w, w]
        windows = self.proj(F.relu(torch.cat(outputs, 1)))
        return self.reverse(windows.flatten(2).transpose(1, 2), maps.shape).permute(0, 3, 1, 2)


def check_map_fills_window(x: Tensor, window_size: int) -> None:
    """Raise ValueError where a side of the map [B, C, H, W] is shorter than the window."""
    height, width = x.shape[-2:]
    if min(height, width) < window_size:
        raise ValueError(
            f"the image is too small for the network's windows: a feature map of {height}x{width} does not fill a "
            f"window of {window_size}x{window_size}; bring the network to this image size first "
            f"(mobilevit_sdk.models.resize.resize_network, or `image_size`)"
        )
