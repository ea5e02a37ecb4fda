"""Which channels are kept or removed together: what pruning may remove and equalization may scale, family by family."""

from mobilevit_sdk.channel_groups import detr, efficientvit, mobilevit, mobilevitv2, navit, tiny_vit, vit  # noqa: F401 (each registers itself)
from mobilevit_sdk.channel_groups.blocks import block_groups, stream_slices
from mobilevit_sdk.channel_groups.dispatch import (
    HasChannelGroups,
    HasProducts,
    channel_groups,
    has_channel_groups,
    product_weights,
    products,
    removable_blocks,
)
from mobilevit_sdk.channel_groups.groups import (
    ChannelGroup,
    ChannelSlice,
    ConfigPath,
    RemovableBlock,
    gates,
    group,
    located,
    reads,
    writes,
)

__all__ = [
    "ChannelGroup",
    "ChannelSlice",
    "ConfigPath",
    "HasChannelGroups",
    "HasProducts",
    "RemovableBlock",
    "block_groups",
    "channel_groups",
    "gates",
    "group",
    "has_channel_groups",
    "located",
    "product_weights",
    "products",
    "reads",
    "removable_blocks",
    "stream_slices",
    "writes",
]
