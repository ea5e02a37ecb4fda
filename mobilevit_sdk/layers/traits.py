"""What blocks say of themselves, so that rewrites need not know them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    """A sum that only `writers` add to and only `norms` and `readers` read: norms of a token, or of a whole image.

    `within` are depthwise convolutions that the sum goes through, and is still the same stream. What else lies between
    a writer and the sum, or the sum and what reads it, keeps channels apart, is linear, and adds nothing.
    """

    writers: tuple[Projection, ...]
    norms: tuple[Norm, ...]
    readers: tuple[Projection, ...] = ()
    within: tuple[nn.Conv2d, ...] = ()


@runtime_checkable
class HasNormReaders(Protocol):
    """A block with norms whose gain and bias a rewrite may move."""

    def norm_readers(self) -> Iterable[NormReader]:
        """Of this block alone, not of those within it."""
        ...


@runtime_checkable
class HasProjectionPairs(Protocol):
    """A network with projections that follow each other."""

    def projection_pairs(self) -> Iterable[ProjectionPair]:
        """Those between its blocks, in inference: a BatchNorm is part of the projection before it."""
        ...


@runtime_checkable
class HasInputConvolution(Protocol):
    """A network that begins with a convolution."""

    def input_convolution(self) -> nn.Conv2d:
        """What alone reads the image."""
        ...


@runtime_checkable
class HasResidualStreams(Protocol):
    """A block, or a network, with residual streams."""

    def residual_streams(self) -> Iterable[ResidualStream]:
        """Each with all that writes to it and reads from it, those within blocks included."""
        ...


def residual_streams(network: nn.Module) -> Iterator[ResidualStream]:
    """Every stream that the network or a block of it declares."""
    for block in network.modules():
        if isinstance(block, HasResidualStreams):
            yield from block.residual_streams()
