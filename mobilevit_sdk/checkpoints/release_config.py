"""The files with which timm and transformers load exported weights from a folder.

Both libraries feed RGB here. Weights for BGR get the channels of their first convolution reversed, which is the same
network: sum over c of W[o, c] x[c] does not depend on the order of c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from torch import Tensor

from mobilevit_sdk.checkpoints.hub import CONFIG, PROCESSOR
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.registry import model_entries, model_spec
from mobilevit_sdk.spec import ModelSpec, Preprocessing

_TIMM = {"mobilevit", "mobilevitv2", "tiny_vit", "efficientvit", "vit"}


def release_config(spec: ModelSpec, layout: str) -> dict[str, dict[str, Any]]:
    """The JSON documents by file name for a classifier of this spec, which is fed RGB, in the layout of a release.

    Raises RequestError where the library has no such network, or its files cannot say what the spec does.
    """
    spec.require_scores("a folder for another library", alone=True)
    if spec.preprocessing.channel_order != "rgb":
        raise ValueError("reverse the channels first: reversed_channels")
    if layout == "timm" and spec.family in _TIMM:
        return {CONFIG: _timm(spec)}
    config = _TRANSFORMERS.get((spec.family, layout))
    if config is None:
        known = [release for family, release in _TRANSFORMERS if family == spec.family]
        known = (["timm"] if spec.family in _TIMM else []) + known
        what = f"use {' or '.join(known)}" if known else f"no library loads a {spec.family} from a folder"
        raise RequestError(f"{layout} has no folder that is loaded by its name; {what}, or write one file")
    if spec.family != "vit":  # of the others, it fixes all but a few numbers
        _require_registered(spec, layout)
    return {CONFIG: _transformers(spec, config(spec.config)), PROCESSOR: _processor(spec.preprocessing)}


def reversed_channels(weights: Mapping[str, Tensor], preprocessing: Preprocessing) -> tuple[dict[str, Tensor], Any]:
    """The weights of a network for BGR as one for RGB, and its preprocessing."""
    stems = [name for name, tensor in weights.items() if tensor.ndim == 4 and tensor.shape[1] == 3]
    if len(stems) != 1:
        raise RequestError(f"{len(stems)} convolutions read three channels: BGR cannot be turned into RGB here")
    rgb = msgspec.structs.replace(
        preprocessing, channel_order="rgb", mean=preprocessing.mean[::-1], std=preprocessing.std[::-1]
    )
    return {**weights, stems[0]: weights[stems[0]].flip(1).contiguous()}, rgb


def _timm(spec: ModelSpec) -> dict[str, Any]:
    _require_registered(spec, "timm")
    preprocessing, (height, width) = spec.preprocessing, spec.preprocessing.image_size
    squashes = preprocessing.resize_mode == "squash"
    document: dict[str, Any] = {
        "architecture": spec.model,
        "num_classes": spec.num_classes,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, height, width],
            "interpolation": preprocessing.interpolation,
            "crop_pct": 1.0 if squashes else _crop_share(min(height, width), preprocessing.resize_size),
            "crop_mode": "squash" if squashes else "center",
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": spec.num_classes,
        },
    }
    if spec.labels:
        document["label_names"] = list(spec.labels)
    if spec.license:
        document["pretrained_cfg"]["license"] = spec.license
    return document


def _require_registered(spec: ModelSpec, library: str) -> None:
    """Raise RequestError unless the network is one that the library builds from its name, or from few numbers."""
    known = spec.model in {entry.name for entry in model_entries(spec.family)}
    registered = model_spec(spec.model, num_classes=spec.num_classes).config if known else {}
    differs = [f"{key} {value}" for key, value in spec.config.items() if value != registered.get(key)]
    if differs:
        what = f"{spec.model} with {', '.join(differs[:4])}"
        raise RequestError(f"{library} has no {what}: write one file, and build the network yourself")


def _crop_share(side: int, resize: int) -> float:
    """The share with which timm, which rounds down, resizes to exactly this size."""
    if resize < side:
        raise RequestError(f"images are resized to {resize} and cropped to {side}, which timm cannot say")
    share = side / resize
    while math.floor(side / share) < resize:
        share = math.nextafter(share, 0)
    return share


def _transformers(spec: ModelSpec, own: dict[str, Any]) -> dict[str, Any]:
    labels = spec.labels or tuple(f"LABEL_{index}" for index in range(spec.num_classes))
    if len(set(labels)) < len(labels):
        raise RequestError("two classes have the same name, and transformers counts classes by name; rename one")
    return {
        **own,
        "num_channels": 3,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


def _mobilevit(config: Mapping[str, Any]) -> dict[str, Any]:
    stages, attending = config["stages"], [stage for stage in config["stages"] if stage["dim"]]
    return {
        "architectures": ["MobileViTForImageClassification"],
        "model_type": "mobilevit",
        "patch_size": config["patch_size"],
        "hidden_sizes": [stage["dim"] for stage in attending],
        "neck_hidden_sizes": [
            config["stem_channels"],
            *(stage["channels"] for stage in stages),
            config["final_channels"],
        ],
        "num_attention_heads": config["num_heads"],
        "mlp_ratio": attending[0]["mlp_dim"] / attending[0]["dim"],
        "expand_ratio": float(config["expansion"]),
        "hidden_act": "silu",
        "conv_kernel_size": 3,
        "layer_norm_eps": config["norm_eps"],
        "qkv_bias": True,
    }


def _mobilevitv2(config: Mapping[str, Any]) -> dict[str, Any]:
    attending = [stage for stage in config["stages"] if stage["dim"]]
    return {
        "architectures": ["MobileViTV2ForImageClassification"],
        "model_type": "mobilevitv2",
        "width_multiplier": config["stages"][-1]["channels"] / 512,
        "base_attn_unit_dims": [128, 192, 256],
        "n_attn_blocks": [stage["depth"] for stage in attending],
        "ffn_multiplier": attending[0]["mlp_dim"] // attending[0]["dim"],
        "expand_ratio": float(config["expansion"]),
        "patch_size": config["patch_size"],
        "hidden_act": "swish",
        "conv_kernel_size": 3,
        "layer_norm_eps": config["norm_eps"],
    }


def _vit(config: Mapping[str, Any]) -> dict[str, Any]:
    if config["distillation_token"] or not config["class_position"] or config["layer_scale"]:
        raise RequestError("transformers' ViT has no distillation token, layer scale or class token without a position")
    if config["image_size"][0] != config["image_size"][1]:
        raise RequestError("transformers' ViT takes square images; write one file")
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "image_size": config["image_size"][0],
        "patch_size": config["patch_size"],
        "hidden_size": config["dim"],
        "num_hidden_layers": config["depth"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": config["dim"] * config["mlp_ratio"],
        "hidden_act": "gelu",
        "layer_norm_eps": config["norm_eps"],
        "qkv_bias": True,
    }


_Config = Callable[[Mapping[str, Any]], dict[str, Any]]
_TRANSFORMERS: dict[tuple[str, str], _Config] = {
    ("mobilevit", "transformers"): _mobilevit,
    ("mobilevitv2", "transformers"): _mobilevitv2,
    ("vit", "transformers"): _vit,
}


def _processor(preprocessing: Preprocessing) -> dict[str, Any]:
    """BiT's, which does each step that ours has, and nothing else."""
    height, width = preprocessing.image_size
    squashes = preprocessing.resize_mode == "squash"
    if not squashes and preprocessing.resize_size < min(height, width):
        raise RequestError("images are resized to less than they are cropped to, which transformers fills with black")
    size = {"height": height, "width": width} if squashes else {"shortest_edge": preprocessing.resize_size}
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": size,
        "resample": {"bilinear": 2, "bicubic": 3}[preprocessing.interpolation],
        "do_center_crop": not squashes,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
