"""A network by its name, as timm creates one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.registry import build_model, model_spec
from mobilevit_sdk.text import one_line


def create_model(name: str, pretrained: str | Path | None = None, **overrides: Any) -> nn.Module:
    """A registered model in reference form and training mode: freshly initialized, or with the weights of a checkpoint.

    `pretrained` is a local file or `hf-hub:org/name`, of our own or a public layout, that must hold this model;
    `overrides` are fields of its config. With `pretrained`, `num_classes` must be the file's, unless the file is a
    backbone, which then gets an untrained head; other fields must leave names and shapes of the weights as they are.
    `load_checkpoint` tells more of a file than its network.

    Shapes: [B, 3, H, W] -> [B, num_classes]; in training mode, two such from a network with a distillation token.

    >>> model = create_model("mobilevit_xxs", num_classes=10)
    >>> model(torch.rand(2, 3, 256, 256)).shape
    torch.Size([2, 10])
    >>> model = create_model("mobilevit_xxs", "hf-hub:timm/mobilevit_xxs.cvnets_in1k").eval()  # doctest: +SKIP

    Raises RequestError for an unknown name or option and for options that the weights do not fit, and CheckpointError
    as `load_checkpoint` does.
    """
    spec = model_spec(name, **overrides)
    if pretrained is None:
        return build_model(spec)
    checkpoint = load_checkpoint(pretrained, model=name, num_classes=overrides.get("num_classes"))
    changed = msgspec.structs.replace(checkpoint.spec, config={**checkpoint.spec.config, **overrides})
    if changed.config == checkpoint.spec.config:
        return checkpoint.model.train()
    model = build_model(changed)
    try:
        model.load_state_dict(checkpoint.model.state_dict())
    except RuntimeError as error:
        options = ", ".join(sorted(overrides))
        message = f"the weights in {pretrained} do not fit {name} with other {options}: {one_line(str(error))}"
        raise RequestError(message) from error
    return model
