"""fill."""

from __future__ import annotations

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.matching import STEP_COUNT, Match
from mobilevit_sdk.checkpoints.safetensors_file import is_finite
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.meta_model import build_on_meta
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.text import shorten


@torch.no_grad()
def _fill(
    match: Match, read: dict[str, Tensor], num_classes: int | None, source: str
) -> tuple[nn.Module, ModelSpec, list[str]]:
    """The network with the file's weights in it, its spec, and notes. Takes the tensors out of `read`."""
    spec, notes = match.spec, list[str]()
    derived = {theirs: read.pop(match.names[theirs]) for theirs in match.derived}
    weights = _weights(match, read, source)
    if match.is_backbone:
        spec = msgspec.structs.replace(spec, config=spec.config | {"num_classes": num_classes})
        fresh = _fresh(spec, [*dict.fromkeys(match.missing.values())])
        weights |= fresh
        notes.append(f"{shorten(list(fresh))} are untrained: the file is a backbone without a classifier")
    network = match.network if match.has_buffers and not match.is_backbone else build_on_meta(spec)
    _assign(network, weights)
    buffers = dict(network.named_buffers())
    wrong = [theirs for theirs, tensor in derived.items() if not torch.equal(tensor, buffers[match.derived[theirs]])]
    if wrong:
        raise CheckpointError(f"{source} holds other values than the network itself derives in {shorten(wrong)}")
    return network.eval(), spec, notes


def _assign(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """`load_state_dict(weights, assign=True)` of names that are known to fit, in a third of the time."""
    modules = dict(network.named_modules())
    for name, tensor in weights.items():
        module, _, leaf = name.rpartition(".")
        is_parameter = leaf in modules[module]._parameters
        setattr(modules[module], leaf, nn.Parameter(tensor) if is_parameter else tensor)


def _weights(match: Match, read: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors of the network, as float32, out of those of the file: stacked, and their rows in our order."""
    integers = [
        name
        for ours, theirs in match.sources.items()
        for name in theirs
        if not (match.tensors[name].is_floating_point() or ours.endswith(STEP_COUNT))
    ]
    if integers:
        kind = str(match.tensors[integers[0]].dtype).removeprefix("torch.")
        raise CheckpointError(f"{source} holds {kind} weights ({shorten(integers)}), expected floating point")
    rows = match.layout.tensor_rows(match.config, match.sources)
    weights: dict[str, Tensor] = {}
    broken: list[str] = []
    spare = torch.empty(0)
    for name, theirs in match.sources.items():
        parts = [read.pop(match.names[each]) for each in theirs]  # so that nothing is in memory twice for long
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        tensor = tensor.to(torch.int64 if name.endswith(STEP_COUNT) else torch.float32)
        if name in rows:
            spare = _reorder(tensor, rows[name], spare)
        if not is_finite(tensor):
            broken += theirs
        weights[name] = tensor
    if broken:
        raise CheckpointError(
            f"{source} holds NaN or infinity in {shorten(broken)}; its training diverged or it is damaged"
        )
    return weights


def _reorder(tensor: Tensor, rows: Tensor, spare: Tensor) -> Tensor:
    """Make `tensor` what `tensor[rows]` is, without memory for a second one: to get that takes longer than the rest.

    Returns the memory that was used in between, to be given as `spare` the next time.
    """
    if spare.numel() < tensor.numel():
        spare = torch.empty(tensor.numel())
    before = spare[: tensor.numel()].view_as(tensor).numpy()
    before[:] = tensor.numpy()
    np.take(before, rows.numpy(), axis=0, out=tensor.numpy(), mode="clip")  # in one thread: see `is_finite`
    return spare


def _fresh(spec: ModelSpec, names: list[str]) -> dict[str, Tensor]:
    """These tensors of the network, as a training starts; always the same."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        state = build_model(spec).state_dict()
    return {name: state[name] for name in names}
