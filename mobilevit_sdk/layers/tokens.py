"""Images as tokens: patches, learned tokens before them, positions (ViT, arXiv 2010.11929, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.layers.conv import ConvNormAct

Grid = tuple[int, int]  # patches: rows, columns


class PatchTokens(nn.Module):
    """One token for each patch, `prefix` learned tokens before them, and a learned position added to each.

    Shapes: [B, in_channels, H, W] -> [B, prefix + (H / patch_size) (W / patch_size), dim]. `grid` is the one that the
    positions were learned for; for images of another size they are interpolated at every call, as timm does with
    `dynamic_img_size`. Without `prefix_positions` the prefix has none (DeiT III, arXiv 2204.07118).
    A `stem` of convolutions takes the first strides of the patches (DeepViT, arXiv 2103.11886).
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        patch_size: int,
        grid: Grid,
        *,
        prefix: int,
        prefix_positions: bool = True,
        stem: nn.Sequential | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.patch_size = patch_size
        self.stem = stem
        for layer in cast("Iterable[ConvNormAct]", stem or ()):
            in_channels = layer.conv.out_channels
            patch_size //= layer.conv.stride[0]
        self.conv = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        self.prefix = nn.Parameter(torch.empty(prefix, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, prefix * prefix_positions + grid[0] * grid[1], dim))
        self.prefix_positions = prefix_positions
        nn.init.trunc_normal_(self.prefix, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x if self.stem is None else self.stem(x))
        positions = self.positions_at((x.shape[2], x.shape[3]))
        x = x.flatten(2).transpose(1, 2)  # [B, dim, h, w] -> [B, h w, dim]
        prefix = self.prefix.transpose(0, 1).expand(x.shape[0], -1, -1)
        if self.prefix_positions:
            return torch.cat([prefix, x], 1) + positions
        return torch.cat([prefix, x + positions], 1)

    def input_convolution(self) -> nn.Conv2d:
        """The layer that reads the image."""
        return self.conv if self.stem is None else cast("ConvNormAct", self.stem[0]).conv

    def positions_at(self, grid: Grid) -> Tensor:
        """The positions for another grid: bicubic between patches, as they are for the prefix. [1, N, dim].

        Enlarged as DeiT's code and transformers do it (`align_corners=False`, no antialias), and with antialias where
        a side shrinks, as timm does: what torch calls bicubic is another kernel with it.
        """
        if grid == self.grid:
            return self.positions
        before = self.positions.shape[1] - self.grid[0] * self.grid[1]
        prefix, patches = self.positions[:, :before], self.positions[:, before:]
        maps = patches.transpose(1, 2).reshape(1, -1, *self.grid)  # [1, dim, h, w]
        shrinks = grid[0] < self.grid[0] or grid[1] < self.grid[1]
        maps = F.interpolate(maps, grid, mode="bicubic", align_corners=False, antialias=shrinks)
        return torch.cat([prefix, maps.flatten(2).transpose(1, 2)], 1)

    def tables_for(self, resized: nn.Module) -> Mapping[str, Tensor]:
        """The positions for the grid of another layer of this kind; see `layers.traits.HasSizedTables`."""
        assert isinstance(resized, PatchTokens)
        return {"positions": self.positions_at(resized.grid).detach()}

    def no_decay(self) -> tuple[nn.Parameter, ...]:
        """As in DeiT's training."""
        return self.prefix, self.positions


class FirstTokens(nn.Module):
    """The first `count` tokens. Shapes: [B, N, C] -> [B, count, C]."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.count]


class PatchMap(nn.Module):
    """The tokens of the patches, which are the last, as a map. Shapes: [B, N, C] -> [B, C, h, w], (h, w) = `grid`."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        height, width = grid
        x = x[:, x.shape[1] - height * width :]
        return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], height, width)


class TokenClassifier(nn.Module):
    """A linear layer that reads the first token; with `distilled`, the mean of it and of one that reads the second.

    Shapes: [B, 1 or 2, C] -> [B, num_classes]. The second learns from a teacher (DeiT, arXiv 2012.12877, section 3): in
    training mode the answer is that of each, a pair, and not their mean.
    """

    def __init__(self, dim: int, num_classes: int, *, distilled: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, num_classes)
        self.linear_dist = nn.Linear(dim, num_classes) if distilled else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        scores: Tensor = self.linear(x[:, :1].flatten(1))
        if self.linear_dist is None:
            return scores
        taught: Tensor = self.linear_dist(x[:, 1:2].flatten(1))
        return (scores, taught) if self.training else (scores + taught) / 2


class PreLogits(nn.Module):
    """What a classifier may read instead of the normalized token: tanh of a linear layer. [B, p, C] -> [B, p, D].

    Of ViT's first networks, trained on ImageNet-21k: `representation_size` in Google's code and in timm before 0.8.
    """

    def __init__(self, dim: int, representation_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, representation_dim)

    def forward(self, x: Tensor) -> Tensor:
        representation: Tensor = self.linear(x).tanh()
        return representation


class LastTokens(nn.Module):
    """All tokens but the first `count`. Shapes: [B, N, C] -> [B, N - count, C]."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.count :]


class TokenMean(nn.Module):
    """The mean of all tokens, as a global pool, which every backend takes. Shapes: [B, N, C] -> [B, C].

    With `members` [B, images, N], which tokens belong to which image of a sequence, [B, images, C]; zeros for none.
    """

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        if members is not None:
            counts = members.sum(2, keepdim=True).clamp(min=1)
            return members.to(x.dtype) @ x / counts.to(x.dtype)
        batch, tokens, channels = x.shape
        if tokens == 1:
            return x.flatten(1)
        return x.transpose(1, 2).reshape(batch, channels, 1, tokens).mean((2, 3), keepdim=True).flatten(1)
