"""DETR: the authors' names, and those of transformers around timm's ResNet or its own; in files, and in its networks.

DC5 has the names and shapes of the plain network: nothing in a file tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from mobilevit_sdk.checkpoints.coco import COCO_LABELS
from mobilevit_sdk.checkpoints.key_maps import KeyMap
from mobilevit_sdk.models.detr import DETRConfig

Pairs = Iterator[tuple[str, str]]  # our name of a module, or of a tensor, and theirs

_BOXES = {0: 0, 2: 1, 4: 2}  # our layer of the box head -> theirs


def _torchvision(config: DETRConfig, root: str) -> Pairs:
    """The ResNet of torchvision and timm."""
    yield from _pair("backbone.stem", f"{root}conv1", f"{root}bn1")
    for ours, (stage, block), has_shortcut in _bottlenecks(config):
        theirs = f"{root}layer{stage + 1}.{block}"
        for i, layer in enumerate(("reduce", "conv", "expand"), start=1):
            yield from _pair(f"{ours}.{layer}", f"{theirs}.conv{i}", f"{theirs}.bn{i}")
        if has_shortcut:
            yield from _pair(f"{ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1")


def _transformers(config: DETRConfig, root: str) -> Pairs:
    """The ResNet of transformers."""

    def layer(ours: str, theirs: str) -> Pairs:
        return _pair(ours, f"{root}{theirs}.convolution", f"{root}{theirs}.normalization")

    yield from layer("backbone.stem", "embedder.embedder")
    for ours, (stage, block), has_shortcut in _bottlenecks(config):
        theirs = f"encoder.stages.{stage}.layers.{block}"
        for i, name in enumerate(("reduce", "conv", "expand")):
            yield from layer(f"{ours}.{name}", f"{theirs}.layer.{i}")
        if has_shortcut:
            yield from layer(f"{ours}.shortcut", f"{theirs}.shortcut")


def _bottlenecks(config: DETRConfig) -> Iterator[tuple[str, tuple[int, int], bool]]:
    for stage, depth in enumerate(config.backbone_depths):
        for block in range(depth):
            yield f"backbone.stages.{stage}.{block}", (stage, block), not block


def _pair(ours: str, conv: str, norm: str) -> Pairs:
    yield f"{ours}.conv", conv
    yield f"{ours}.norm", norm


def _official(config: DETRConfig) -> Pairs:
    yield from _torchvision(config, "backbone.0.body.")
    yield from (("projection", "input_proj"), ("transformer.queries", "query_embed"), ("class_head", "class_embed"))
    yield from ((f"box_head.{ours}", f"bbox_embed.layers.{theirs}") for ours, theirs in _BOXES.items())
    yield "transformer.norm", "transformer.decoder.norm"
    for layer, parts in _layers(config):
        ours, theirs = f"transformer.{layer}", f"transformer.{layer.replace('.', '.layers.')}"
        attentions = {"attention": "self_attn", "cross_attention": "multihead_attn"}
        for attention in parts:
            name = attentions[attention]
            for leaf in ("weight", "bias"):
                yield f"{ours}.{attention}.qkv.{leaf}", f"{theirs}.{name}.in_proj_{leaf}"
            yield f"{ours}.{attention}.proj", f"{theirs}.{name}.out_proj"
        yield from ((f"{ours}.mlp.fc{i}", f"{theirs}.linear{i}") for i in (1, 2))
        yield from ((f"{ours}.norm{i}", f"{theirs}.norm{i}") for i in range(1, len(parts) + 2))


def _hugging_face(config: DETRConfig, *, own_resnet: bool, in_memory: bool) -> Pairs:
    root = "model.backbone.model." if in_memory else "model.backbone.conv_encoder.model."
    yield from (_transformers if own_resnet else _torchvision)(config, root)
    yield "projection", "model.input_projection"
    yield "transformer.queries", "model.query_position_embeddings"
    yield "transformer.norm", "model.decoder.layernorm"
    yield "class_head", "class_labels_classifier"
    yield from ((f"box_head.{ours}", f"bbox_predictor.layers.{theirs}") for ours, theirs in _BOXES.items())
    out, mlp = ("o_proj", "mlp.") if in_memory else ("out_proj", "")
    for layer, parts in _layers(config):
        ours, theirs = f"transformer.{layer}", f"model.{layer.replace('.', '.layers.')}"
        names = {"attention": "self_attn", "cross_attention": "encoder_attn"}
        for i, attention in enumerate(parts, start=1):
            name = names[attention]
            yield from ((f"{ours}.{attention}.qkv", f"{theirs}.{name}.{part}_proj") for part in "qkv")
            yield f"{ours}.{attention}.proj", f"{theirs}.{name}.{out}"
            yield f"{ours}.norm{i}", f"{theirs}.{name}_layer_norm"
        yield from ((f"{ours}.mlp.fc{i}", f"{theirs}.{mlp}fc{i}") for i in (1, 2))
        yield f"{ours}.norm{len(parts) + 1}", f"{theirs}.final_layer_norm"


def _layers(config: DETRConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The layers of the transformer, `encoder.0` and so on, with their attentions."""
    yield from ((f"encoder.{i}", ("attention",)) for i in range(config.encoder_layers))
    yield from ((f"decoder.{i}", ("attention", "cross_attention")) for i in range(config.decoder_layers))


def _modules(config: DETRConfig, *, own_resnet: bool = False, in_memory: bool | None) -> Mapping[str, tuple[str, ...]]:
    pairs = (
        _official(config) if in_memory is None else _hugging_face(config, own_resnet=own_resnet, in_memory=in_memory)
    )
    found: dict[str, tuple[str, ...]] = {}
    for ours, theirs in pairs:
        found[ours] = (*found.get(ours, ()), theirs)
    return found


def _options(tensors: Mapping[str, Tensor], *, names: Mapping[str, str]) -> dict[str, Any]:
    """All widths and depths, but for the number of heads. `names` are patterns of names, with one number at most."""

    def count(name: str) -> int:
        found = (re.fullmatch(names[name], each) for each in tensors)
        return max((int(match[1]) + 1 for match in found if match), default=0)

    def rows(name: str) -> int:
        tensor = next((each for each in tensors if re.fullmatch(names[name], each)), None)
        return 0 if tensor is None or not tensors[tensor].ndim else len(tensors[tensor])

    table = tensors.get(names["queries"].replace("\\", ""))
    shown: dict[str, Any] = {
        "num_queries": rows("queries"),
        "dim": table.shape[1] if table is not None and table.ndim == 2 else 0,
        "mlp_dim": rows("mlp"),
        "encoder_layers": count("encoder"),
        "decoder_layers": count("decoder"),
        "backbone_width": rows("stem"),
    }
    depths = tuple(count(f"stage {stage}") for stage in range(4))
    shown["backbone_depths"] = depths if all(depths) else ()
    return {name: value for name, value in shown.items() if value}


def _patterns(in_memory: bool | None, own_resnet: bool) -> dict[str, str]:
    """Of what shows each width and depth."""
    if in_memory is None:
        root, layers, norm, mlp = "backbone.0.body.", "transformer.", "norm1", "linear1"
        queries = "query_embed.weight"
    else:
        root = "model.backbone.model." if in_memory else "model.backbone.conv_encoder.model."
        layers, norm, mlp = "model.", "self_attn_layer_norm", "mlp.fc1" if in_memory else "fc1"
        queries = "model.query_position_embeddings.weight"
    names = {
        "queries": queries,
        "mlp": f"{layers}encoder.layers.0.{mlp}.weight",
        "stem": root + ("embedder.embedder.convolution.weight" if own_resnet else "conv1.weight"),
        **{part: f"{layers}{part}.layers.#.{norm}.weight" for part in ("encoder", "decoder")},
    }
    for stage in range(4):
        names[f"stage {stage}"] = root + (
            f"encoder.stages.{stage}.layers.#.layer.0.convolution.weight"
            if own_resnet
            else f"layer{stage + 1}.#.conv1.weight"
        )
    return {part: re.escape(name).replace(re.escape("#"), "([0-9]{1,4})") for part, name in names.items()}


def _key_map(release: str, in_memory: bool | None, *, own_resnet: bool = False) -> KeyMap:
    return KeyMap(
        release,
        "detr",
        partial(_modules, own_resnet=own_resnet, in_memory=in_memory),
        classifier="class_head",
        no_class=1,
        options=partial(_options, names=_patterns(in_memory, own_resnet)),
        container="model" if in_memory is None else "",
        labels=COCO_LABELS if in_memory is None else (),
        labels_note="the head has 91 classes, as the authors' for COCO: named after COCO's unless labels are given",
    )


LAYOUTS = (
    _key_map("detr", None),
    _key_map("transformers", False),
    _key_map("transformers-resnet", False, own_resnet=True),
    _key_map("transformers-5", True),
    _key_map("transformers-5-resnet", True, own_resnet=True),
)
