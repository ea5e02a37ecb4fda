"""Structured pruning: a checkpoint goes in, a physically smaller one comes out."""

from mobilevit_sdk.pruning.images import PruningImages
from mobilevit_sdk.pruning.pruner import Kept, Pruned, prune, prune_network
from mobilevit_sdk.pruning.request import CRITERIA, Request

__all__ = ["CRITERIA", "Kept", "Pruned", "PruningImages", "Request", "prune", "prune_network"]
