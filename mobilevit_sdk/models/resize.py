"""A trained network for images of another size."""

from __future__ import annotations

from torch import nn

from mobilevit_sdk.layers import PositionBias
from mobilevit_sdk.models.registry import build_model, spec_at_size
from mobilevit_sdk.spec import ModelSpec


def resize_network(model: nn.Module, spec: ModelSpec, height: int, width: int) -> tuple[nn.Module, ModelSpec]:
    """The network and its spec for images of `height` x `width` pixels, with the same weights.

    Windows follow the image as in the official code of their family, and the tables of `PositionBias` are interpolated
    to them. The model given stays as it is; it is returned where nothing in it depends on the size. Raises RequestError
    for a size that the architecture does not admit.
    """
    resized_spec = spec_at_size(spec, height, width)
    if resized_spec.config == spec.config:
        return model, resized_spec
    resized = build_model(resized_spec)
    weights = model.state_dict()
    for name, layer in resized.named_modules():
        if isinstance(layer, PositionBias):
            old = model.get_submodule(name)
            assert isinstance(old, PositionBias)
            weights[f"{name}.table"] = old.resized_table(layer.window_size)
    resized.load_state_dict(weights)
    return resized.train(model.training), resized_spec
