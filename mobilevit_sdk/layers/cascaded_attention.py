"""Cascaded group attention (EfficientViT, arXiv 2305.07027, section 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.channel_groups.groups import Slice, Width, of_unit, reads, width, writes
from mobilevit_sdk.layers.conv import ConvNormAct
from mobilevit_sdk.layers.position_bias import PositionBias
from mobilevit_sdk.layers.windows import WindowPartition, WindowReverse


class CascadedGroupAttention(nn.Module):
    """Attention within windows, each head on channels of its own to which the answer of the head before is added.

    Figure 6c of the paper, equations 2 and 3. Of the heads, one for each of `kernels`, queries and keys have `key_dim`
    channels, values dim / num_heads. Queries pass a depthwise convolution within their window (token interaction), of
    the kernel size of their head. Shapes: [B, dim, H, W] -> [B, dim, H, W]; a map that is no multiple of the window is
    padded with zeros, which take part in attention. Raises ValueError where the map is smaller than the window.

    Where only the heads at `positions` are left, the groups of the others are not read, and a head without one right
    before it begins the cascade anew. Modules of heads are named by their positions.
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
        answers: list[Tensor] = []
        for before, i, bias in zip((None, *self.positions), self.positions, self.position_bias(), strict=False):
            x = groups[i] + answers[-1] if before == i - 1 else groups[i]
            q, k, v = self.qkv[str(i)](x).split((self.key_dim, self.key_dim, self.value_dim), 1)
            q = self.token_interaction[str(i)](q)
            q, k, v = (each.flatten(2).transpose(1, 2)[:, None] for each in (q, k, v))  # [.., d, w, w] -> [.., 1, N, d]
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # of rank 4: torch.onnx takes no other
            answers.append(attended.transpose(2, 3).reshape(x.shape))  # [.., 1, N, d] -> [.., d, w, w]
        windows = self.proj(F.relu(torch.cat(answers, 1)))
        return self.reverse(windows.flatten(2).transpose(1, 2), maps.shape).permute(0, 3, 1, 2)

    def widths(self) -> Iterator[Width]:
        key_dim = self.key_dim
        heads = [(self._head(self.qkv, i), self._head(self.token_interaction, i)) for i in self.positions]
        interactions = [writes(interaction, effect=True) for _, interaction in heads]
        keys = [
            (*writes(qkv), *writes(qkv, key_dim), *interaction)
            for (qkv, _), interaction in zip(heads, interactions, strict=True)
        ]
        keys[0] += (Slice(self, "scores", 1),)
        # The scale of attention goes into the gain and bias of the norm that ends the queries' way.
        rescaled = [
            each for _, interaction in heads for each in writes(interaction.norm) if each.tensor in ("weight", "bias")
        ]
        yield width("q/k", key_dim, *keys, rescaled=rescaled, name="key_dim")
        whole = (*reads(self.proj, 0, self.value_dim), Slice(self.position_bias, "table", 0))
        products = (Slice(self, "scores", 0), Slice(self, "answers", 0))
        modules = [each for i, head in enumerate(heads) for module in head for each in of_unit(i, module)]
        all_heads = width("heads", len(heads), (*whole, *products, *modules), name="heads", rows=self.value_dim)
        yield dataclasses.replace(all_heads, names=self.positions)

    def on_stream(self) -> list[tuple[Slice, ...]]:
        """What reads the residual stream and writes to it, for each group of channels; then the last head's answer.

        Channel i of a group meets dimension i of the answer of the head before, so they go together.
        """
        size, after = self.value_dim, 2 * self.key_dim
        parts: list[tuple[Slice, ...]] = [writes(self.proj, group * size) for group in range(self.num_groups)]
        for index, position in enumerate(self.positions):
            qkv = self._head(self.qkv, position)
            parts[position] += reads(qkv)
            answer = (*writes(qkv, after), *reads(self.proj, index * size))
            if position + 1 in self.positions:
                parts[position + 1] += answer
            else:
                parts.append(answer)
        parts[0] += (Slice(self, "answers", 1),)
        return parts

    @staticmethod
    def _head(modules: nn.ModuleDict, position: int) -> ConvNormAct:
        module = modules[str(position)]
        assert isinstance(module, ConvNormAct)
        return module

    def products(self) -> dict[str, tuple[int, ...]]:
        count = len(self.positions)
        return {"scores": (count, self.key_dim), "answers": (count, self.value_dim)}


def check_map_fills_window(x: Tensor, window_size: int) -> None:
    """Raise ValueError where a side of the map [B, C, H, W] is shorter than the window."""
    height, width = x.shape[-2:]
    if min(height, width) < window_size:
        raise ValueError(
            f"the image is too small for the network's windows: a feature map of {height}x{width} does not fill a "
            f"window of {window_size}x{window_size}; bring the network to this image size first "
            f"(mobilevit_sdk.models.resize.resize_network, or --image-size)"
        )
