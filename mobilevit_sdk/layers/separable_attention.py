"""Separable self-attention (MobileViTv2, Mehta and Rastegari, arXiv 2206.02680, section 3.2) and its transformer.

The pixels of a feature map are tokens, grouped as [B, dim, P, N]: the P pixels of a patch and the N patches. Attention
runs across the patches, separately for each of the P positions within them; all other layers treat pixels alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.layers.stochastic_depth import StochasticDepth
from mobilevit_sdk.layers.traits import NormReader


class SeparableAttention(nn.Module):
    """One context vector for all tokens: the keys, weighted by a softmax over the patches, times each token's value.

    Shapes: [B, dim, P, N] -> [B, dim, P, N]. The rows of `qkv` are q (one), k (`value_dim`), v (`value_dim`), by
    default `dim`. The cost is linear in N.
    """

    def __init__(self, dim: int, *, value_dim: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.value_dim = value_dim or dim
        self.qkv = nn.Conv2d(dim, 1 + 2 * self.value_dim, 1)
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.Conv2d(self.value_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split((1, self.value_dim, self.value_dim), dim=1)
        scores = self.dropout(q.softmax(dim=-1))  # [B, 1, P, N]
        context = (k * scores).sum(dim=-1, keepdim=True)  # [B, dim, P, 1]
        return self.proj(F.relu(v) * context)


class PointwiseMLP(nn.Module):
    """The feed-forward network as 1x1 convolutions, with dropout between them. Shapes: [B, dim, H, W] -> the same."""

    def __init__(self, dim: int, hidden_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.activation = nn.SiLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.dropout(self.activation(self.fc1(x))))


class SeparableTransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). Shapes: [B, dim, P, N] -> the same.

    Both norms are GroupNorms with one group: mean and variance of a whole image, gain and bias of each channel.
    """

    def __init__(
        self,
        dim: int,
        mlp_dim: int,
        *,
        value_dim: int | None = None,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        mlp_dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, dim, eps=norm_eps)
        self.attention = SeparableAttention(dim, value_dim=value_dim, dropout=attention_dropout)
        self.norm2 = nn.GroupNorm(1, dim, eps=norm_eps)
        self.mlp = PointwiseMLP(dim, mlp_dim, dropout=mlp_dropout)
        self.dropout = nn.Dropout(dropout)
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.stochastic_depth(self.dropout(self.attention(self.norm1(x))))
        return x + self.stochastic_depth(self.dropout(self.mlp(self.norm2(x))))

    def norm_readers(self) -> tuple[NormReader, ...]:
        return NormReader(self.norm1, self.attention.qkv), NormReader(self.norm2, self.mlp.fc1)


class SeparableTransformer(nn.Module):
    """A feature map cut into patches, transformer blocks, a norm, and the map reassembled.

    Shapes: [B, dim, H, W] -> the same; H and W must be multiples of `patch_size`. `block_dims` has `value_dim` and
    `mlp_dim` of each block by its number; by default there are `depth` blocks with `dim` and `mlp_dim`.
    """

    def __init__(
        self,
        dim: int,
        mlp_dim: int,
        depth: int,
        patch_size: int,
        *,
        block_dims: Mapping[int, tuple[int, int]] | None = None,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        mlp_dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.blocks = nn.Sequential()
        for i, (value_dim, hidden) in (block_dims or dict.fromkeys(range(depth), (dim, mlp_dim))).items():
            block = SeparableTransformerBlock(
                dim,
                hidden,
                value_dim=value_dim,
                norm_eps=norm_eps,
                dropout=dropout,
                attention_dropout=attention_dropout,
                mlp_dropout=mlp_dropout,
                stochastic_depth=stochastic_depth,
            )
            self.blocks.add_module(str(i), block)
        self.norm = nn.GroupNorm(1, dim, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        batch, dim, height, width = x.shape
        p = self.patch_size
        rows, columns = height // p, width // p
        x = x.reshape(batch, dim, rows, p, columns, p).permute(0, 1, 3, 5, 2, 4)  # [B, C, nh, p, nw, p] -> [B, C, p, p,
        x = self.norm(self.blocks(x.reshape(batch, dim, p * p, rows * columns)))  # nh, nw] -> [B, C, P, N]
        x = x.reshape(batch, dim, p, p, rows, columns).permute(0, 1, 4, 2, 5, 3)  # [B, C, P, N] -> [B, C, nh, p, nw, p]
        return x.reshape(batch, dim, height, width)
