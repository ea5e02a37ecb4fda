"""What blocks and networks declare about themselves, so that rewrites need not know their types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

Norm = nn.LayerNorm | nn.GroupNorm
Projection = nn.Linear | nn.Conv2d  # over the channels; a convolution is in one group, and 1x1 where it reads a norm


@dataclass(frozen=True)
class NormReader:
    """Only `reader` reads the output of `norm`; what lies between them moves values and does not mix channels.

    It may read the channels of several tokens, one after the other.
    """

    norm: Norm
    reader: Projection


@dataclass(frozen=True)
class ProjectionPair:
    """Only `reader` reads the output of `writer`.

    What lies between them moves pixels, or takes their mean, and does not mix channels.
    """

    writer: Projection
    reader: Projection


@dataclass(frozen=True)
class ResidualStream:
    """A sum that only `writers` add to and only `norms` and `readers` read: norms of a token, or of a whole image.

    `constants` are added to it as well: learned tokens and positions, the channels on their last axis. `within` are
    depthwise convolutions that the sum passes, which leave it the same stream. What else lies between a writer and the
    sum, or the sum and a norm or reader, is linear without bias and does not mix channels.
    """

    writers: tuple[Projection, ...]
    norms: tuple[Norm, ...]
    readers: tuple[Projection, ...] = ()
    within: tuple[nn.Conv2d, ...] = ()
    constants: tuple[nn.Parameter, ...] = ()


@runtime_checkable
class HasNormReaders(Protocol):
    """A block with norms whose gain and bias a rewrite may move into their readers."""

    def norm_readers(self) -> Iterable[NormReader]:
        """Those of this block alone, not of blocks within it."""
        ...


@runtime_checkable
class HasProjectionPairs(Protocol):
    """A network with projections that directly follow each other."""

    def projection_pairs(self) -> Iterable[ProjectionPair]:
        """Those between its blocks, in inference: a BatchNorm is part of the projection before it."""
        ...


@runtime_checkable
class HasInputConvolution(Protocol):
    """A network that begins with a convolution."""

    def input_convolution(self) -> nn.Conv2d:
        """The only layer that reads the image."""
        ...


@runtime_checkable
class HasResidualStreams(Protocol):
    """A block, or a network, with residual streams."""

    def residual_streams(self) -> Iterable[ResidualStream]:
        """Each with all that writes to it and reads from it, layers within blocks included."""
        ...


@runtime_checkable
class HasSizedTables(Protocol):
    """A layer with weights that depend on the size of the image."""

    def tables_for(self, resized: nn.Module) -> Mapping[str, Tensor]:
        """Its tensors of that kind, by their names, interpolated for `resized`, the same layer of a resized network."""
        ...


@runtime_checkable
class HasNoDecay(Protocol):
    """A layer with parameters of more than one axis that weight decay must leave alone."""

    def no_decay(self) -> Iterable[nn.Parameter]:
        """Tables and tokens, which are no matrices. Those of one axis need not be named."""
        ...


@runtime_checkable
class HasFirstTokens(Protocol):
    """A network that reads only the first tokens of what its last block answers."""

    def first_tokens(self) -> tuple[nn.Module, int] | None:
        """The last block and how many of its tokens are read; None where all are."""
        ...


def residual_streams(network: nn.Module) -> Iterator[ResidualStream]:
    """Every stream that the network or a block of it declares."""
    for block in network.modules():
        if isinstance(block, HasResidualStreams):
            yield from block.residual_streams()
