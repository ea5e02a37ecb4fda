"""Attention written out as two batched matrix products and a softmax, with q, k and v from linears of their own.

softmax(q k^T / sqrt(d)) v with (q, k, v) = split(W x + b)  ==  softmax(q' k^T) v with q' = (W_q / sqrt(d)) x + b_q / sqrt(d),
because the scale commutes with the linear that makes q. Heads are folded into the batch axis, so nothing exceeds rank 4
and no operator is a fused attention, an expand or a multiplication by a scalar, which delegates refuse.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.deploy.replace import replace_layers
from mobilevit_sdk.layers import Attention


class ExplicitAttention(nn.Module):
    """The inference form of `Attention`. Shapes: [B, N, dim] -> [B, N, dim]."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.head_dim = attention.head_dim
        weights = attention.qkv.weight.chunk(3)
        biases = attention.qkv.bias.chunk(3)
        scale = attention.head_dim**-0.5
        self.q = _linear(weights[0].double() * scale, biases[0].double() * scale, weights[0].dtype)
        self.k = _linear(weights[1], biases[1], weights[1].dtype)
        self.v = _linear(weights[2], biases[2], weights[2].dtype)
        self.proj = attention.proj

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self._heads(self.q(x)), self._heads(self.k(x)), self._heads(self.v(x))
        k = k.permute(0, 1, 3, 2)  # [B, heads, N, d] -> [B, heads, d, N]
        folded = batch * self.num_heads
        scores = torch.bmm(
            q.reshape(folded, tokens, self.head_dim), k.reshape(folded, self.head_dim, tokens)
        )  # [B * heads, N, N]
        x = torch.bmm(scores.softmax(-1), v.reshape(folded, tokens, self.head_dim))
        x = x.view(batch, self.num_heads, tokens, self.head_dim).permute(0, 2, 1, 3)
        out: Tensor = self.proj(x.reshape(batch, tokens, dim))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """[B, N, dim] -> [B, heads, N, d]."""
        return x.view(x.shape[0], x.shape[1], self.num_heads, self.head_dim).permute(0, 2, 1, 3)


def split_attention(network: nn.Module) -> None:
    """Replace every Attention by its explicit form, in place."""
    replace_layers(network, Attention, ExplicitAttention)


@torch.no_grad()
def _linear(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype)
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
    return linear
