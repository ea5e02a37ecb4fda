"""Tokens of images of any size, one image or a packed sequence of several (NaViT, arXiv 2307.06304, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.layers.grid_positions import GridPositions


def to_patches(images: Tensor, patch_size: int) -> Tensor:
    """Images of whole patches, cut. Shapes: [B, C, H, W] -> [B, (H / p) (W / p), p p C], patches row by row.

    Within a patch stand its pixels row by row, and the channels of each beside each other, as in timm's NaFlex.
    """
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    x = images.reshape(batch, channels, rows, patch_size, columns, patch_size).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(batch, rows * columns, patch_size * patch_size * channels)


def own_image_mask(owners: Tensor) -> Tensor:
    """Tokens see those of their own image: [B, N] -> boolean [B, 1, N, N]. Padding sees padding, so all see some."""
    return (owners[:, :, None] == owners[:, None])[:, None]


class RaggedTokens(nn.Module):
    """One token for each patch with its position added, and `registers` learned tokens before those of an image.

    Shapes: [B, in_channels, H, W] -> [B, registers + (H / patch_size) (W / patch_size), dim].
    """

    registers: nn.Parameter | None

    def __init__(
        self, in_channels: int, dim: int, patch_size: int, positions: GridPositions, *, registers: int, bias: bool
    ) -> None:
        super().__init__()
        self.in_channels, self.patch_size = in_channels, patch_size
        self.proj = nn.Linear(patch_size * patch_size * in_channels, dim, bias=bias)
        learned = nn.Parameter(nn.init.normal_(torch.empty(1, registers, dim), std=0.02)) if registers else None
        self.register_parameter("registers", learned)
        self.positions = positions

    @property
    def num_registers(self) -> int:
        """How many stand before the tokens of an image."""
        return 0 if self.registers is None else self.registers.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        grid = (x.shape[2] // self.patch_size, x.shape[3] // self.patch_size)
        return self.after_registers(self.proj(to_patches(x, self.patch_size)) + self.positions.on(grid, self.like))

    def embed(self, patches: Tensor, rows: Tensor, columns: Tensor, heights: Tensor, widths: Tensor) -> Tensor:
        """Patches of any images in any order, as `to_patches` cuts them. Shapes: [B, N, p p C] -> [B, N, dim].

        For each patch, integers [B, N]: its row and column, and how many rows and columns of patches its image has.
        """
        vectors: Tensor = self.proj(patches) + self.positions(rows, columns, heights, widths, self.like)
        return vectors

    def after_registers(self, x: Tensor, images: int = 1) -> Tensor:
        """Registers of so many images before a sequence. Shapes: [B, N, dim] -> [B, images registers + N, dim]."""
        if self.registers is None:
            return x
        return torch.cat([self.registers.repeat(1, images, 1).expand(x.shape[0], -1, -1), x], 1)

    @property
    def like(self) -> Tensor:
        """A tensor of the type and device of the tokens."""
        return self.proj.weight

    def constants(self) -> tuple[nn.Parameter, ...] | None:
        """What is added to the tokens beside patches; None where not all of it are parameters."""
        tables, registers = self.positions.constants(), self.registers
        return tables if tables is None or registers is None else (registers, *tables)

    def no_decay(self) -> tuple[nn.Parameter, ...]:
        """Registers; positions name their own."""
        return () if self.registers is None else (self.registers,)
