"""A pre-norm transformer block."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mobilevit_sdk.layers.attention import Attention
from mobilevit_sdk.layers.layer_scale import LayerScale
from mobilevit_sdk.layers.mlp import MLP
from mobilevit_sdk.layers.relative_positions import RelativePositions
from mobilevit_sdk.layers.stochastic_depth import StochasticDepth
from mobilevit_sdk.layers.traits import NormReader


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). Shapes: [B, N, dim] -> [B, N, dim].

    With `layer_scale`, each of the two sums takes its branch times a learned factor per channel; both
    are `branch_scale` times as strong. `re_attention`, `qk_norm` and `positions` are those of `Attention`; without
    `bias`, no linear and no norm has one. Where the attention answers its first `num_queries` tokens alone, so does the
    block. `mask` is that of `Attention.forward`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        *,
        key_dim: int | None = None,
        value_dim: int | None = None,
        activation: Callable[[], nn.Module] = nn.SiLU,
        norm_eps: float = 1e-5,
        layer_scale: bool = False,
        branch_scale: float = 1.0,
        re_attention: float | None = None,
        qk_norm: bool = False,
        positions: RelativePositions | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        mlp_dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        stochastic_depth_groups: int = 1,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps, bias=bias)
        self.branch_scale = branch_scale
        self.attention = Attention(
            dim,
            num_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            dropout=attention_dropout,
            re_attention=re_attention,
            qk_norm=qk_norm,
            positions=positions,
            bias=bias,
        )
        self.layer_scale1 = LayerScale(dim) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps, bias=bias)
        self.mlp = MLP(dim, mlp_dim, activation=activation, dropout=mlp_dropout, bias=bias)
        self.layer_scale2 = LayerScale(dim) if layer_scale else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.stochastic_depth = StochasticDepth(stochastic_depth, groups=stochastic_depth_groups)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        normalized = self.norm1(x)
        attended = self.attention(normalized) if mask is None else self.attention(normalized, mask)
        return self.add(x if attended.shape[1] == x.shape[1] else x[:, : attended.shape[1]], attended)

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """Both sums, from the attention's answer to some tokens. Shapes: [B, N, dim], twice -> the same."""
        x = x + self.stochastic_depth(self.dropout(self._scaled(self.layer_scale1(attended))))
        return x + self.stochastic_depth(self.dropout(self._scaled(self.layer_scale2(self.mlp(self.norm2(x))))))

    def _scaled(self, branch: Tensor) -> Tensor:
        return branch if self.branch_scale == 1 else branch * self.branch_scale

    def norm_readers(self) -> tuple[NormReader, ...]:
        return NormReader(self.norm1, self.attention.qkv), NormReader(self.norm2, self.mlp.fc1)
