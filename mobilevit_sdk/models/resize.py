"""A trained network for images of another size."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor, nn

from mobilevit_sdk.layers import HasSizedTables
from mobilevit_sdk.models.registry import build_model, spec_at_size
from mobilevit_sdk.spec import ModelSpec, Windows


def resize_network(
    model: nn.Module, spec: ModelSpec, height: int, width: int, windows: Windows | None = None
) -> tuple[nn.Module, ModelSpec]:
    """The network and its spec for images of `height` x `width` pixels, with the same weights.

    Windows scale with the image or keep their size, as `spec_at_size` says. The model given stays as it is; it is
    returned where nothing in it depends on the size. Raises RequestError for a size that the network does not take.
    """
    resized_spec = spec_at_size(spec, height, width, windows)
    return fit_network(model, spec, resized_spec), resized_spec


def networks_at_sizes(model: nn.Module, stored: ModelSpec, spec: ModelSpec) -> list[nn.Module]:
    """A network for each of the sizes of `spec`, each from `model`, the network of `stored`, and none from another.

    What is equal in two of them is one tensor. Raises RequestError for a size that the network does not take.
    """
    networks = []
    for entry in spec.entries:
        config = spec_at_entry(stored, entry.preprocessing.image_size, spec.windows or None).config
        networks.append(fit_network(model, stored, msgspec.structs.replace(entry, config=config)))
    share_tensors(networks)
    return networks


def spec_at_entry(stored: ModelSpec, size: tuple[int, int], windows: Windows | None) -> ModelSpec:
    """The spec of a network for one of several sizes; at its own, its windows are what they are."""
    return spec_at_size(stored, *size, None if stored.preprocessing.image_size == size else windows)


def share_tensors(networks: Sequence[nn.Module]) -> None:
    """Make parameters and buffers that have one name, and are equal to the bit, one tensor, in place.

    For what does not change its weights: toolchains then store each once.
    """
    known: dict[str, list[Tensor]] = {}
    for network in networks:
        for module_name, module in network.named_modules():
            for held in (module._parameters, module._buffers):
                for leaf, tensor in held.items():
                    if tensor is not None:
                        others = known.setdefault(f"{module_name}.{leaf}", [])
                        twin = next((other for other in others if _equal(tensor, other)), None)
                        if twin is None:
                            others.append(tensor)
                        else:
                            held[leaf] = twin


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (
        (type(one), one.dtype, one.stride()) == (type(other), other.dtype, other.stride())
        and one.requires_grad == other.requires_grad
        and torch.equal(one, other)
    )


def fit_network(model: nn.Module, spec: ModelSpec, wanted: ModelSpec) -> nn.Module:
    """The network of `wanted` with the weights of `model`, the network of `spec`, which may differ in windows or grid.

    Tables of positions are interpolated to those wanted, the only weights that depend on them.
    """
    if wanted.config == spec.config:
        return model
    fitted = build_model(wanted)
    weights = model.state_dict()
    for name, layer in fitted.named_modules():
        if isinstance(layer, HasSizedTables):
            old = model.get_submodule(name)
            assert isinstance(old, HasSizedTables)
            tables = old.tables_for(fitted.get_submodule(name))
            weights |= {f"{name}.{table}": tensor for table, tensor in tables.items()}
    fitted.load_state_dict(weights)
    return fitted.train(model.training)
