"""A small network in every container that checkpoints come in, as bytes of files."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import safetensors.torch
import torch
from small_networks import small_specs
from torch import Tensor

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.export import export_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.models.registry import model_spec
from mobilevit_sdk.spec import ModelSpec


@dataclass(frozen=True)
class Container:
    """`files` lie in a folder, in which `source` is loaded; `state` is what that gives. `has_spec`: in its header."""

    name: str
    files: Mapping[str, bytes]
    source: str
    state: Mapping[str, Tensor]
    has_spec: bool = False


def containers() -> Sequence[Container]:
    """Own files of two families; a public release's names in each format of PyTorch, in parts, and with its config."""
    found = []
    for family in ("mobilevit", "detr"):
        made = random_checkpoint(small_specs()[family], 0)
        state = {name: tensor.contiguous() for name, tensor in made.model.state_dict().items()}
        content = safetensors.torch.save(state, {"mobilevit_sdk": msgspec.json.encode(made.spec).decode()})
        found.append(Container(f"own .safetensors, {family}", {"a.safetensors": content}, "a.safetensors", state, True))
    return [*found, *_of_release()]


def _of_release() -> Iterator[Container]:
    """MobileViT-XXS under timm's names, and a narrow ViT under Google's."""
    made, named = _in_timm(model_spec("mobilevit_xxs", num_classes=4))
    state, config = made.model.state_dict(), {"architecture": "mobilevit_xxs", "num_classes": 4}

    def one(name: str, file: str, content: bytes) -> Container:
        return Container(name, {file: content}, file, state)

    training = {"model": named, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "epoch": 3}
    yield one("timm's .safetensors", "a.safetensors", safetensors.torch.save(named))
    yield one(".pth, zip", "a.pth", _saved(named))
    yield one(".pth of a training", "a.pth", _saved(training))
    yield one(".pth before torch 1.6", "a.pth", _saved(named, _use_new_zipfile_serialization=False))
    weights = {"model.safetensors": safetensors.torch.save(named), "config.json": json.dumps(config).encode()}
    yield Container("folder of the hub", weights, "model.safetensors", state)
    names = sorted(named)
    halves = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    place = {name: file for file, own in halves.items() for name in own}
    parts = {file: safetensors.torch.save({name: named[name] for name in own}) for file, own in halves.items()}
    index = json.dumps({"metadata": {}, "weight_map": place}).encode()
    yield Container(
        "index and its parts", {**parts, "a.safetensors.index.json": index}, "a.safetensors.index.json", state
    )
    made, named = _in_timm(model_spec("vit_tiny_patch16_224", num_classes=4, dim=64, num_heads=1))
    yield Container(".npz", {"a.npz": _google(named)}, "a.npz", made.model.state_dict())


def _in_timm(spec: ModelSpec) -> tuple[Checkpoint, Mapping[str, Tensor]]:
    """Random weights, and their release's names."""
    made = random_checkpoint(spec, 0)
    with tempfile.TemporaryDirectory() as scratch:
        exported = export_checkpoint(made, "timm", Path(scratch) / "a.safetensors")
        return made, safetensors.torch.load_file(exported.path)


def _saved(content: object, **options: bool) -> bytes:
    packed = io.BytesIO()
    torch.save(content, packed, **options)
    return packed.getvalue()


def _google(named: Mapping[str, Tensor]) -> bytes:
    """As JAX's code for ViT saves it; see `checkpoints.npz_file`."""
    arrays: dict[str, Tensor] = {
        "cls": named["cls_token"],
        "Transformer/posembed_input/pos_embedding": named["pos_embed"],
        "embedding/kernel": named["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": named["patch_embed.proj.bias"],
        "head/kernel": named["head.weight"].T,
        "head/bias": named["head.bias"],
        "Transformer/encoder_norm/scale": named["norm.weight"],
        "Transformer/encoder_norm/bias": named["norm.bias"],
    }
    for index in range(12):
        ours, theirs = f"blocks.{index}", f"Transformer/encoderblock_{index}"
        for number, name in ((0, "norm1"), (2, "norm2")):
            arrays[f"{theirs}/LayerNorm_{number}/scale"] = named[f"{ours}.{name}.weight"]
            arrays[f"{theirs}/LayerNorm_{number}/bias"] = named[f"{ours}.{name}.bias"]
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        rows = zip(*(named[f"{ours}.attn.qkv.{leaf}"].chunk(3) for leaf in ("weight", "bias")), strict=True)
        for name, (weight, bias) in zip(("query", "key", "value"), rows, strict=True):
            arrays[f"{attention}/{name}/kernel"] = weight.T.unflatten(1, (1, -1))
            arrays[f"{attention}/{name}/bias"] = bias.unflatten(0, (1, -1))
        arrays[f"{attention}/out/kernel"] = named[f"{ours}.attn.proj.weight"].T.unflatten(0, (1, -1))
        arrays[f"{attention}/out/bias"] = named[f"{ours}.attn.proj.bias"]
        for number in (0, 1):
            own = f"{ours}.mlp.fc{number + 1}"
            arrays[f"{theirs}/MlpBlock_3/Dense_{number}/kernel"] = named[f"{own}.weight"].T
            arrays[f"{theirs}/MlpBlock_3/Dense_{number}/bias"] = named[f"{own}.bias"]
    packed = io.BytesIO()
    np.savez(packed, **{name: np.ascontiguousarray(tensor) for name, tensor in arrays.items()})  # type: ignore[arg-type]
    return packed.getvalue()
