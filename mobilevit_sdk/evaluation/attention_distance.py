"""How far the attention of each block reaches, in pixels: a measure of how much like a convolution it is.

As in ViT (arXiv 2010.11929, section 4.5): the distance between the patch that asks and those that it attends to,
weighed by how much. DearKD (arXiv 2204.12997, figure 4) follows it through a training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import Attention
from mobilevit_sdk.layers.hooks import forward_hooks


@torch.no_grad()
def attention_maps(network: nn.Module, x: Tensor) -> list[Tensor]:
    """How much each token takes of each, by block and head, before re-attention mixes heads: [B, heads, N, N] each.

    `x` is what the network takes, [B, 3, H, W]. The network is in the reference form, and best in eval mode.
    """
    found: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, Attention)
        tokens, *masks = inputs
        q, k, _ = layer.project(tokens)
        scores = q @ k.transpose(2, 3) * layer.scale
        if masks and masks[0].dtype == torch.bool:
            scores = scores.masked_fill(~masks[0], -math.inf)
        elif masks:
            scores = scores + masks[0]
        elif layer.position_bias is not None:
            scores = scores + layer.position_bias()
        found.append(scores.softmax(-1))

    with forward_hooks(before=[(layer, keep) for layer in network.modules() if isinstance(layer, Attention)]):
        network(x)
    return found


def attention_distance(maps: Tensor, grid: tuple[int, int], patch_size: int) -> float:
    """The mean distance in pixels, over images, heads and patches that ask, of maps [..., N, N] on a grid of patches.

    A patch's distance is that of the centers of the patches that it attends to, weighed by how much of its attention
    to patches each gets. Tokens before the patches have no place: they neither ask nor are counted.
    """
    rows, columns = grid
    y, x = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    distances = patch_size * torch.hypot((y - y[:, None]).double(), (x - x[:, None]).double()).to(maps.device)
    first = maps.shape[-1] - rows * columns
    weights = maps[..., first:, first:].double()
    return float(((weights * distances).sum(-1) / weights.sum(-1)).mean())


def attention_distances(network: nn.Module, x: Tensor, patch_size: int) -> list[float]:
    """`attention_distance` of each block, for images [B, 3, H, W] as the network takes them.

    Raises RequestError for a network whose tokens are not the patches of the whole image.
    """
    grid = x.shape[2] // patch_size, x.shape[3] // patch_size
    maps = attention_maps(network, x)
    if not maps or any(each.shape[-1] < grid[0] * grid[1] for each in maps):
        raise RequestError(
            "how far attention reaches is measured of networks whose tokens are the patches of an image, such as ViT, "
            "DeiT, DearKD and DeepViT: leave out `attention_distance`"
        )
    return [attention_distance(each, grid, patch_size) for each in maps]
