"""Replacing layers within a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def replace_layers(network: nn.Module, kind: type[M], replacement: Callable[[M], nn.Module]) -> None:
    """Replace every layer of exactly the type `kind` by `replacement(layer)`, in place."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is kind:
                setattr(parent, name, replacement(child))


def replace_layer(network: nn.Module, layer: nn.Module, replacement: nn.Module) -> None:
    """Replace this one layer by `replacement`, in place."""
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is layer:
                setattr(parent, name, replacement)
                return
    raise ValueError("the network has no such layer")
