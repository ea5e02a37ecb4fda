"""What can be removed from a network, found by its type or asked of the network itself.

The families of this SDK are registered for their types, one file a family. A family of another package (entry-point
group `mobilevit_sdk.models`) gives its network the methods of `HasChannelGroups`, and blocks that multiply activations
the one of `HasProducts`. An object's own methods count before what is registered for its type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import singledispatch
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from mobilevit_sdk.channel_groups.groups import ChannelGroup, RemovableBlock
from mobilevit_sdk.errors import RequestError


@runtime_checkable
class HasChannelGroups(Protocol):
    """A network that describes its own channel groups."""

    def channel_groups(self) -> Iterable[ChannelGroup]:
        """All of them, with paths from the network's config; each number of the config in at most one."""
        ...

    def removable_blocks(self) -> Iterable[RemovableBlock]:
        """Those that can be removed as a whole."""
        ...


@runtime_checkable
class HasProducts(Protocol):
    """A block that describes the products of activations that it computes."""

    def products(self) -> Mapping[str, tuple[int, ...]]:
        """Sizes that each product's multiply-accumulates are proportional to, by the name for `ChannelSlice.tensor`."""
        ...


def has_channel_groups(network: nn.Module) -> bool:
    """Whether `channel_groups` and `removable_blocks` accept the network; they do not accept one of features."""
    if getattr(network, "output", "logits") != "logits":  # nothing in the network reads what it returns
        return False
    registered = network_groups.dispatch(type(network)) is not network_groups.dispatch(object)
    return registered or isinstance(network, HasChannelGroups)


def channel_groups(network: nn.Module) -> Iterator[ChannelGroup]:
    """All channel groups of a network, in the order of its layers. Raises RequestError where they are not known."""
    return iter(network.channel_groups()) if isinstance(network, HasChannelGroups) else network_groups(network)


def removable_blocks(network: nn.Module) -> Iterator[RemovableBlock]:
    """The blocks that can be removed as a whole. Raises RequestError where channel groups are not known."""
    return iter(network.removable_blocks()) if isinstance(network, HasChannelGroups) else network_blocks(network)


def products(module: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Products of two activations that `module` itself computes, as in `HasProducts`; most modules have none."""
    return module.products() if isinstance(module, HasProducts) else block_products(module)


@singledispatch
def network_groups(network: nn.Module) -> Iterator[ChannelGroup]:
    """Where each family of this SDK registers its channel groups."""
    raise _unknown(network)


@singledispatch
def network_blocks(network: nn.Module) -> Iterator[RemovableBlock]:
    """Where each family of this SDK registers its removable blocks."""
    raise _unknown(network)


@singledispatch
def block_products(block: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Where the attention layers of this SDK register their products."""
    return {}


@singledispatch
def product_weights(block: nn.Module, inputs: tuple[Tensor, ...]) -> Mapping[str, float]:
    """What an element of each product costs beside one of the others, when the block gets these inputs; by default 1.

    Here an attention between different tokens registers how many of each it multiplies.
    """
    return dict.fromkeys(products(block), 1.0)


def _unknown(network: nn.Module) -> RequestError:
    return RequestError(
        f"{type(network).__name__} does not say which of its channels belong together, so nothing of it can be pruned: "
        f"take a model of this SDK, or add the methods of mobilevit_sdk.channel_groups.HasChannelGroups"
    )
