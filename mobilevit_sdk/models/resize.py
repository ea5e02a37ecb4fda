"""A trained network for images of another size."""

from __future__ import annotations

from torch import nn

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
