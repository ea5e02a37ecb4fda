"""Transformer blocks within windows, with a depthwise convolution across their borders (TinyViT, arXiv 2207.10666)."""

from __future__ import annotations

from torch import Tensor, nn

from mobilevit_sdk.layers.attention import Attention
from mobilevit_sdk.layers.conv import ConvNormAct
from mobilevit_sdk.layers.mlp import MLP
from mobilevit_sdk.layers.stochastic_depth import StochasticDepth
from mobilevit_sdk.layers.traits import NormReader
from mobilevit_sdk.layers.windows import WindowPartition, WindowReverse


class WindowTransformerBlock(nn.Module):
    """Attention within windows, a depthwise convolution across their borders, an MLP (section 3.2 of the paper).

    Shapes: [B, H, W, C] -> [B, H, W, C], any H and W. Positions that pad the map to whole windows are normalized and
    attended to like any other, as in the official code.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        window_size: int,
        *,
        key_dim: int | None = None,
        value_dim: int | None = None,
        mlp_dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.partition = WindowPartition(window_size)
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads, key_dim=key_dim, value_dim=value_dim, window_size=window_size)
        self.reverse = WindowReverse(window_size)
        self.local_conv = ConvNormAct(dim, dim, 3, groups=dim, activation=None)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_dim, activation=nn.GELU, dropout=mlp_dropout)
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        windows = self.attention(self.norm1(self.partition(x)))  # [B * windows, N, C]
        x = x + self.stochastic_depth(self.reverse(windows, x.shape))
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # [B, H, W, C] -> [B, C, H, W] and back
        return x + self.stochastic_depth(self.mlp(self.norm2(x)))

    def norm_readers(self) -> tuple[NormReader, ...]:
        return NormReader(self.norm1, self.attention.qkv), NormReader(self.norm2, self.mlp.fc1)


class WindowTransformer(nn.Sequential):
    """Window transformer blocks on a feature map. Shapes: [B, C, H, W] -> [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # [B, C, H, W] -> [B, H, W, C]
        for block in self:
            x = block(x)
        return x.permute(0, 3, 1, 2)
