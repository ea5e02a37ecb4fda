"""The separable transformer of one image on its feature map as it is, [1, C, H, W]: no patch is ever cut.

Projections are 1x1 convolutions and a GroupNorm with one group is a norm over everything: neither asks where a pixel
lies. Attention alone does, by the place of a pixel within its patch:

- The scores, one number a pixel, are brought into the order of patches for the softmax, and back. Laid out as a matrix
  [P, HW], zero where a pixel is at another place, they give the weighted pixel of each place as one product.
- The scores s of a place add up to 1, so the context, sum_n s_n (W_k x_n + b_k), is W_k (sum_n s_n x_n) + b_k: k is
  taken of one weighted pixel for each place instead of all N.
- A constant added to all scores changes no softmax, so q needs no bias.
- Pixels of one place share their context: with channels last, [H / p, p, W / p, p C] times [1, p, 1, p C] reads it
  where it is.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment.channels_first.pointwise import convolution
from mobilevit_sdk.deployment.global_norm import GlobalNorm
from mobilevit_sdk.deployment.linears import linear
from mobilevit_sdk.deployment.products import batch_axes, batched_product
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import SeparableAttention, SeparableTransformer
from mobilevit_sdk.layers.hooks import forward_hooks
from mobilevit_sdk.layers.separable_attention import SeparableTransformerBlock


class NCHWSeparableAttention(nn.Module):
    """`SeparableAttention` of one image. Shapes: [1, C, H, W], [1, P, HW] or [1, 1, P, HW] -> [1, C, H, W].

    The second input, of the rank of the product, has a row for each of the `patch_size` ** 2 places: one for its own
    pixels, zero for the others.
    """

    def __init__(self, attention: SeparableAttention, patch_size: int) -> None:
        super().__init__()
        self.dim = dim = attention.value_dim
        self.patch_size = patch_size
        self.q = convolution(attention.qkv, slice(0, 1), bias=False)
        self.k = linear(attention.qkv, slice(1, 1 + dim))
        self.v = convolution(attention.qkv, slice(1 + dim, None))
        self.proj = attention.proj

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        p = self.patch_size
        height, width = x.shape[2:]
        context = self.k(self._weighted(x, places).view(1, p * p, -1))
        value = F.relu(self.v(x)).permute(0, 2, 3, 1).reshape(height // p, p, width // p, p * self.dim)
        value = value * context.view(1, p, 1, p * self.dim)
        out: Tensor = self.proj(value.view(1, height, width, self.dim).permute(0, 3, 1, 2))
        return out

    def _weighted(self, x: Tensor, places: Tensor) -> Tensor:
        """The weighted pixel of each place, [1, P, C] or [1, 1, P, C]."""
        *ones, number, pixels = places.shape
        values = x.permute(0, 2, 3, 1).reshape(*ones, pixels, -1)
        if pixels == number:  # a single pixel at each place, whose weight is 1
            return values
        return batched_product(self._weights(x).view(*ones, 1, pixels) * places, values)

    def _weights(self, x: Tensor) -> Tensor:
        """The weight of each pixel among those at its place, [1, 1, HW]."""
        p = self.patch_size
        rows, columns = (side // p for side in x.shape[2:])
        scores = self.q(x).view(rows, p, columns, p).permute(1, 3, 0, 2).reshape(1, p * p, rows * columns)
        weights = scores.softmax(-1).view(p, p, rows, columns).permute(2, 0, 3, 1)  # -> [rows, p, columns, p]
        return weights.reshape(1, 1, -1)


class NCHWSeparableBlock(nn.Module):
    """`SeparableTransformerBlock` of one image. Shapes: as `NCHWSeparableAttention`."""

    def __init__(self, block: SeparableTransformerBlock, patch_size: int) -> None:
        super().__init__()
        self.norm1 = GlobalNorm(block.norm1)
        self.attention = NCHWSeparableAttention(block.attention, patch_size)
        self.norm2 = GlobalNorm(block.norm2)
        self.mlp = block.mlp

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), places)
        return x + self.mlp(self.norm2(x))


class NCHWSeparableTransformer(nn.Module):
    """`SeparableTransformer` of one image whose map has `size` = (H, W), with products of `product_rank` 3 or 4.

    Shapes: [1, C, H, W] -> [1, C, H, W].
    """

    places: Tensor

    def __init__(self, transformer: SeparableTransformer, size: tuple[int, int], product_rank: int) -> None:
        super().__init__()
        p = transformer.patch_size
        blocks = (cast("SeparableTransformerBlock", block) for block in transformer.blocks)
        self.blocks = nn.ModuleList(NCHWSeparableBlock(block, p) for block in blocks)
        self.norm = GlobalNorm(transformer.norm)
        of_patch = torch.eye(p * p, dtype=torch.float64).view(p * p, 1, p, 1, p)
        places = of_patch.expand(p * p, size[0] // p, p, size[1] // p, p)
        self.register_buffer("places", places.reshape(*batch_axes(1, 1, product_rank), p * p, -1))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, self.places)
        out: Tensor = self.norm(x)
        return out


def separable_attention_nchw(network: nn.Module, image_size: tuple[int, int], product_rank: int) -> None:
    """Replace every SeparableTransformer by its form for one image of `image_size` = (H, W), in place.

    Its products have `product_rank` 3 or 4. Its norms must have neither gain nor bias left.
    """
    sizes = _map_sizes(network, image_size)
    replace_layers(
        network, SeparableTransformer, lambda layer: NCHWSeparableTransformer(layer, sizes[layer], product_rank)
    )


@torch.no_grad()
def _map_sizes(network: nn.Module, image_size: tuple[int, int]) -> dict[nn.Module, tuple[int, int]]:
    """(H, W) of the map that each SeparableTransformer gets of an image: known once it has seen one."""
    sizes: dict[nn.Module, tuple[int, int]] = {}

    def see(layer: nn.Module, given: tuple[Tensor]) -> None:
        height, width = given[0].shape[2:]
        sizes[layer] = height, width

    found = [layer for layer in network.modules() if isinstance(layer, SeparableTransformer)]
    if found:
        with forward_hooks(before=[(layer, see) for layer in found]):
            network(torch.zeros(1, 3, *image_size, dtype=next(network.parameters()).dtype))
    return sizes
