"""Networks without weights, on the meta device: built fast, without memory for what a file will bring."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mobilevit_sdk.layers.flops import macs_by_module
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.spec import ModelSpec

Shape = tuple[int, ...]


class _OnMeta(TorchFunctionMode):
    """Puts the tensors of `torch.empty`, which are a network's parameters, on the meta device and skips their init.

    To initialize them would take more time than all the rest. What the network computes, such as index tables, is
    computed as ever. With `bare` it is not: constants are on the meta device too, and what comes from `torch.arange` is
    left empty, because to compute it on the meta device would first load half of torch's compiler.
    """

    def __init__(self, *, bare: bool) -> None:
        super().__init__()
        self.bare = bare

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.bare and func is torch.arange:
            return torch.empty(0, dtype=torch.int64, device="meta")
        if func is torch.empty or (self.bare and func in (torch.zeros, torch.ones)):
            return func(*args, **{**kwargs, "device": kwargs.get("device") or "meta"})
        name = func.__name__
        if not name.endswith("__") or name == "__getitem__":
            first = args[0] if args else kwargs.get("tensor")
            if isinstance(first, Tensor) and first.is_meta and (name.endswith("_") or not first.is_floating_point()):
                return first
        return func(*args, **kwargs)


def build_on_meta(spec: ModelSpec) -> nn.Module:
    """The network of `spec` with parameters on the meta device, to be filled by `load_state_dict(..., assign=True)`.

    What the network computes itself, such as index tables, is there. Raises RequestError for a config that does not
    fit.
    """
    with _OnMeta(bare=False):
        return build_model(spec)


def build_bare_on_meta(spec: ModelSpec) -> nn.Module:
    """Like `build_on_meta`, but without what the network computes itself: for configs from untrusted files.

    Names and shapes of `state_dict()` are right; nothing takes memory, whatever sizes the config claims.
    """
    with _OnMeta(bare=True):
        return build_model(spec)


def tensor_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Names and shapes of all tensors of a network, without memory for any. Raises what `build_on_meta` raises."""
    return {name: tuple(tensor.shape) for name, tensor in build_bare_on_meta(spec).state_dict().items()}


def count_macs(spec: ModelSpec) -> int:
    """Multiply-accumulates of the reference form on one image, in convolutions, linears and products of attention."""
    return macs_by_module(build_on_meta(spec).to("meta"), spec.preprocessing.image_size)[""]
