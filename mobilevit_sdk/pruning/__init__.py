"""Structured pruning: a checkpoint goes in, a physically smaller one comes out."""

from mobilevit_sdk.pruning.images import Images
from mobilevit_sdk.pruning.pruner import Kept, Pruned, prune, prune_network
from mobilevit_sdk.pruning.request import CRITERIA, Request

__all__ = ["CRITERIA", "Images", "Kept", "Pruned", "Request", "prune", "prune_network"]
