"""What blocks say of themselves, so that rewrites need not know them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

Norm = nn.LayerNorm | nn.GroupNorm
Projection = nn.Linear | nn.Conv2d  # over the channels; a convolution is 1x1, in one group


@dataclass(frozen=True)
class NormReader:
    """Nothing but `reader` reads what `norm` writes; what lies between them moves values and keeps channels apart."""

    norm: Norm
    reader: Projection


@dataclass(frozen=True)
class ProjectionPair:
    """Nothing but `reader` reads what `writer` writes.

    What lies between them moves pixels, or takes their mean, and keeps channels apart.
    """

    writer: Projection
    reader: Projection


@dataclass(frozen=True)
class ResidualStream:
    """A sum that only `writers` add to and only the LayerNorms `norms` read, each over the channels of a token.

    What lies between a writer and the sum keeps channels apart, is linear, and adds nothing.
    """

    writers: tuple[Projection, ...]
    norms: tuple[nn.LayerNorm, ...]


@runtime_checkable
class DeclaresNormReaders(Protocol):
    """A block with norms whose gain and bias a rewrite may move."""

    def norm_readers(self) -> Iterable[NormReader]:
        """Of this block alone, not of those within it."""
        ...


@runtime_checkable
class DeclaresProjectionPairs(Protocol):
    """A network with projections that follow each other."""

    def projection_pairs(self) -> Iterable[ProjectionPair]:
        """Those between its blocks, in inference: a BatchNorm is part of the projection before it."""
        ...


@runtime_checkable
class DeclaresInputConvolution(Protocol):
    """A network that begins with a convolution."""

    def input_convolution(self) -> nn.Conv2d:
        """What alone reads the image."""
        ...


@runtime_checkable
class DeclaresResidualStream(Protocol):
    """A block with a residual stream of its own."""

    def residual_stream(self) -> ResidualStream:
        """All that writes to it and reads from it, those within blocks included."""
        ...
