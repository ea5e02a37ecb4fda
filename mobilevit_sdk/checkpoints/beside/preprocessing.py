"""How images are prepared, out of transformers' `preprocessor_config.json` and timm's `pretrained_cfg`.

Both are read in groups, which `_GROUPS` lists. A group whose fields the caller decides is skipped, so that nothing in
it stands in the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from mobilevit_sdk.checkpoints.beside.keys import Keys, plain, read_json, unknown_note, words
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.spec import Preprocessing
from mobilevit_sdk.text import one_line

Three = tuple[float, float, float]
Side = Annotated[int, msgspec.Meta(ge=1, le=65536)]
_OneOrThree = Annotated[list[float], msgspec.Meta(min_length=1, max_length=3)]  # one, of a network for gray images
Changes = dict[str, Any]
FIELDS = frozenset(Preprocessing.__struct_fields__)

# Of timm's pretrained_cfg: where weights came from, and what follows from other keys or from the weights.
TIMM_HARMLESS = words(
    """url file hf_hub_id hf_hub_filename source architecture tag custom_load num_classes min_input_size
    fixed_input_size pool_size test_pool_size first_conv classifier license description origin_url paper_name
    paper_ids notes label_names label_descriptions"""
)
# Of transformers' image processors: what callers and containers set, and what is done to label maps.
PROCESSOR_HARMLESS = words(
    """do_convert_rgb do_reduce_labels processor_class _processor_class data_format input_data_format return_tensors
    device disable_grouping default_to_square _valid_processor_keys"""
)
# What the image processor of detectors does to boxes, and to pictures of several sizes.
_DETECTION_HARMLESS = words("format do_convert_annotations do_pad pad_size pad_and_return_pixel_mask")
_STEPS_WE_LACK = ("do_pad", "do_thumbnail", "do_align_long_axis", "rescale_offset")  # of other image processors

_RESIZE_MODES = {"center": "shorter", "squash": "squash"}  # timm's names, ours
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # PIL's numbers
_FLIPPING = "MobileViT"  # this image processor turns RGB into BGR unless told otherwise, and never normalizes
_DETECTING = "Detr"
_GENERIC = ("ViT", "DeiT", "Bit", "CLIP", "MobileNetV1", "MobileNetV2")  # these resize, crop, rescale, normalize, alone


def from_transformers(keys: Keys, default: Preprocessing, given: Collection[str] = ()) -> Changes:
    """The fields of Preprocessing that a `preprocessor_config.json` sets, but for the groups that are `given`.

    Raises ValueError, which names the key, for what we do not reproduce.
    """
    names = (keys.take("image_processor_type", str), keys.take("feature_extractor_type", str))
    name = next((each for each in names if each), "")
    kind = name.removesuffix("Fast").removesuffix("Pil").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if kind not in ("", _FLIPPING, _DETECTING, *_GENERIC):
        raise ValueError(f"{name} prepares images in a way of its own; give a `preprocessing` that says it")
    harmless = _DETECTION_HARMLESS if kind == _DETECTING else frozenset()
    keys.skip(*harmless)
    for key in (each for each in _STEPS_WE_LACK if each not in harmless):
        if value := keys.take(key, object):
            raise ValueError(f"{key} is {plain(value)}: a step that is not reproduced here")
    return _read(_TRANSFORMERS, keys, _Context(default, name, kind), given)


def from_timm(keys: Keys, default: Preprocessing, given: Collection[str] = ()) -> Changes:
    """The fields of Preprocessing that timm's `pretrained_cfg` sets, but for the groups that are `given`.

    Raises ValueError, which names the key, for what we do not reproduce.
    """
    return _read(_TIMM, keys, _Context(default), given)


def read_preprocessing(path: Path, default: Preprocessing) -> tuple[Preprocessing, tuple[str, ...]]:
    """What a file of the user's says: transformers' `preprocessor_config.json`, or timm's `config.json`, or the
    `pretrained_cfg` of one. What it leaves open is taken from `default`. Returns notes as well.

    Raises RequestError where it cannot be read or says what we do not reproduce.
    """
    keys = read_json(path, "the preprocessing")
    if keys is None:
        raise RequestError(f"{path} does not exist; give a preprocessor_config.json, or timm's config.json")
    try:
        if "pretrained_cfg" in keys:
            keys = keys.inside("pretrained_cfg")
        if any(key in keys for key in ("crop_pct", "input_size", "mean", "std")):
            changes, harmless = from_timm(keys, default), TIMM_HARMLESS
            changes = in_order("rgb", default) | changes  # which all of timm feeds
        elif any(key in keys for key in ("size", "crop_size", "do_resize", "do_rescale", "do_normalize")):
            changes, harmless = from_transformers(keys, default), PROCESSOR_HARMLESS
        else:
            raise ValueError("it holds neither keys of an image processor of transformers nor timm's pretrained_cfg")
        found = changed(default, changes)
        return found, (*squash_note(keys, found), *unknown_note(path.name, keys.left(harmless)))
    except ValueError as error:
        raise RequestError(
            f"{path} describes no preprocessing that can be reproduced: {one_line(str(error))}"
        ) from error


def changed(default: Preprocessing, changes: Changes) -> Preprocessing:
    """`default` with these fields. Raises ValueError for values that it does not take."""
    check_scale(changes.get("mean"), changes.get("std"))
    return msgspec.convert(msgspec.to_builtins(default) | changes, Preprocessing)


def in_order(order: str, default: Preprocessing) -> Changes:
    """The fields that bring `default` to another order of the channels: mean and std stay with their colors."""
    if order == default.channel_order:
        return {}
    return {"channel_order": order, "mean": default.mean[::-1], "std": default.std[::-1]}


def check_scale(mean: Three | None, std: Three | None) -> None:
    """Raise ValueError for a mean of pixels from 0 to 255: ours is of pixels from 0 to 1."""
    if mean is not None and 1 < max(map(abs, mean)) < math.inf:
        small, divided = (_numbers(each / 255 for each in values) for values in (mean, std or ()))
        raise ValueError(
            f"mean {_numbers(mean)} is of pixels from 0 to 255, and here they are scaled to 0 to 1 first: divide mean "
            f"and std by 255 (mean {small}{f', std {divided}' if divided else ''})"
        )
    if std is not None and 2 < max(std) < math.inf:
        raise ValueError(
            f"std {_numbers(std)} is of pixels from 0 to 255, and here they are scaled to 0 to 1 first: divide it by "
            f"255 ({_numbers(each / 255 for each in std)})"
        )


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


@dataclass(frozen=True)
class _Context:
    default: Preprocessing
    name: str = ""  # of transformers' image processor, as the file has it
    kind: str = ""


@dataclass(frozen=True)
class _Group:
    fields: frozenset[str]  # of Preprocessing
    keys: tuple[str, ...]  # that decide on them
    read: Callable[[Keys, _Context], Changes]


def _read(groups: tuple[_Group, ...], keys: Keys, context: _Context, given: Collection[str]) -> Changes:
    changes: Changes = {}
    for group in groups:
        if group.fields <= set(given):
            keys.skip(*group.keys)
        else:
            changes |= group.read(keys, context)
    return changes


def _timm_geometry(keys: Keys, context: _Context) -> Changes:
    default = context.default
    mode = keys.take("crop_mode", str) or "center"
    if mode not in _RESIZE_MODES:
        raise ValueError(f"crop_mode {mode!r}, expected {' or '.join(map(repr, _RESIZE_MODES))}")
    shape = keys.take("input_size", tuple[int, Side, Side])
    size = shape[1:] if shape else default.image_size
    share = keys.take("crop_pct", Annotated[float, msgspec.Meta(ge=0.1, le=1)])
    share = share or min(default.image_size) / default.resize_size
    if mode == "squash" and share < 1:
        raise ValueError(f"crop_mode 'squash' with crop_pct {share}, expected 1")
    return {"image_size": size, "resize_size": int(min(size) / share), "resize_mode": _RESIZE_MODES[mode]}


def _timm_interpolation(keys: Keys, context: _Context) -> Changes:
    name = keys.take("interpolation", str)
    return _interpolation("interpolation", name) if name else {}


def _timm_values(keys: Keys, context: _Context) -> Changes:
    found = {name: keys.take(name, _OneOrThree) for name in ("mean", "std")}
    return {name: tuple(value * 3)[:3] if len(value) == 1 else tuple(value) for name, value in found.items() if value}


def _geometry(keys: Keys, context: _Context) -> Changes:
    if keys.take("do_resize", bool) is False:
        raise ValueError("do_resize is false: pictures of any size are not taken; give image size and resize")
    if context.kind == _DETECTING:
        return _detection_geometry(keys, context)
    default, size = context.default, _size(keys, "size", ("shortest_edge",), ("height", "width"))
    crop = _size(keys, "crop_size", ("height", "width"))
    crops = keys.take("do_center_crop", bool)
    crops = (context.kind in ("", _FLIPPING) or crop is not None) if crops is None else crops
    if size is None:
        size = (default.resize_size,)
    elif isinstance(size, int):
        if context.kind in _GENERIC:
            raise ValueError(f"size is {size}: {context.name} means both sides or the shorter one, by its version")
        size = (size,)
    crop = (crop, crop) if isinstance(crop, int) else crop
    if len(size) == 2:
        if crops and crop not in (None, size):
            raise ValueError(f"it squashes pictures to size {_pixels(size)} and then crops them to {_pixels(crop)}")
        return {"image_size": size, "resize_size": min(size), "resize_mode": "squash"}
    if not crops:
        raise ValueError("do_center_crop is false and size is a shortest_edge: pictures would be of many sizes")
    crop = crop or default.image_size
    if size[0] < min(crop):
        raise ValueError(
            f"size {size[0]} is less than crop_size {_pixels(crop)}: transformers fills what is missing with black; "
            f"give image size and resize"
        )
    return {"image_size": crop, "resize_size": size[0], "resize_mode": "shorter"}


def _detection_geometry(keys: Keys, context: _Context) -> Changes:
    """Pictures keep their proportions within a size, and batches are padded, or they are squashed to one.

    A phone file takes one size: boxes are shares of the picture, so that a squashed one gives the same shares.
    """
    forms = (("shortest_edge", "longest_edge"), ("shortest_edge",), ("height", "width"), ("max_height", "max_width"))
    size, longest, stated = _size(keys, "size", *forms), keys.take("max_size", Side), keys.peek("size")
    if isinstance(stated, dict) and "height" in stated:
        return {"image_size": size, "resize_size": min(size), "resize_mode": "squash"}
    if isinstance(stated, dict):
        shortest, longest = stated.get("shortest_edge"), stated.get("longest_edge", longest)
    else:
        shortest = size
    if shortest and longest and shortest > longest:
        raise ValueError(f"size is {plain(stated)}, and the longer side is at most {longest}: less than the shorter")
    return {}


def squash_note(keys: Keys, preprocessing: Preprocessing) -> tuple[str, ...]:
    """What becomes of pictures that an image processor brings to many sizes, in words."""
    name = str(keys.peek("image_processor_type") or keys.peek("feature_extractor_type") or "")
    size = keys.peek("size")
    if not name.startswith(_DETECTING) or (isinstance(size, dict) and "height" in size):
        return ()
    pixels = _pixels(preprocessing.image_size)
    return (
        f"{name} keeps a picture's proportions, and a phone file takes one size: pictures are squashed to {pixels}, "
        f"of which boxes are shares; image size asks for another",
    )


def _resample(keys: Keys, context: _Context) -> Changes:
    number = keys.take("resample", int)
    return {} if number is None else _interpolation("resample", _RESAMPLE.get(number, str(number)))


def _interpolation(key: str, name: str) -> Changes:
    if name not in ("bilinear", "bicubic"):
        raise ValueError(f"{key} is {name}, expected bilinear or bicubic")
    return {"interpolation": name}


def _values(keys: Keys, context: _Context) -> Changes:
    """Ours: (p / 255 - mean) / std, for pixels p from 0 to 255. Theirs: (p * factor - mean) / std, both optional."""
    mean, std = keys.take("image_mean", Three), keys.take("image_std", Three)
    normalizes = keys.take("do_normalize", bool)
    if normalizes and context.kind == _FLIPPING:
        raise ValueError(f"do_normalize is true, but {context.name} never normalizes; give mean and std")
    if normalizes is None and not context.kind and (mean or std):
        raise ValueError(
            "image_mean and image_std stand without do_normalize and without the processor that would decide on them; "
            "give mean and std"
        )
    if normalizes is None:
        normalizes = context.kind in (_DETECTING, *_GENERIC)
    if context.kind == _DETECTING:  # its own values are those of the release
        mean, std = mean or context.default.mean, std or context.default.std
    if normalizes and (mean is None or std is None):
        raise ValueError("do_normalize is true without image_mean and image_std; give mean and std")
    if not normalizes:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    assert mean is not None
    assert std is not None
    factor = keys.take("rescale_factor", Annotated[float, msgspec.Meta(gt=0, lt=1e6)])
    if keys.take("do_rescale", bool) is False:
        factor = 1.0
    scale = 1.0 if factor is None or abs(255 * factor - 1) < 1e-6 else 255 * factor
    return {"mean": tuple(each / scale for each in mean), "std": tuple(each / scale for each in std)}


def _order(keys: Keys, context: _Context) -> Changes:
    flips = (keys.take("do_flip_channel_order", bool), keys.take("do_flip_channels", bool))  # the newer name first
    flip = next((each for each in flips if each is not None), None)
    if flip is None and context.kind:
        flip = context.kind == _FLIPPING
    return {} if flip is None else {"channel_order": "bgr" if flip else "rgb"}


def _size(keys: Keys, key: str, *forms: tuple[str, ...]) -> Any:
    """A number as it stands, an object of one of these forms as a tuple, None where there is none."""
    sides = keys.take(key, Side | dict[str, Side])
    if sides is None or isinstance(sides, int):
        return sides
    for form in forms:
        if set(sides) == set(form):
            return tuple(sides[name] for name in form)
    raise ValueError(f"{key} has {' and '.join(sides)}, expected {' or '.join(' and '.join(form) for form in forms)}")


def _pixels(size: Any) -> str:
    return "x".join(map(str, size))


_SIZES = frozenset({"image_size", "resize_size", "resize_mode"})
_FILTER = frozenset({"interpolation"})
_COLORS = frozenset({"mean", "std"})
_TIMM = (
    _Group(_SIZES, ("input_size", "crop_pct", "crop_mode"), _timm_geometry),
    _Group(_FILTER, ("interpolation",), _timm_interpolation),
    _Group(_COLORS, ("mean", "std"), _timm_values),
)
_TRANSFORMERS = (
    _Group(_SIZES, ("do_resize", "size", "do_center_crop", "crop_size"), _geometry),
    _Group(_FILTER, ("resample",), _resample),
    _Group(_COLORS, ("image_mean", "image_std", "do_normalize", "rescale_factor", "do_rescale"), _values),
    _Group(frozenset({"channel_order"}), ("do_flip_channel_order", "do_flip_channels"), _order),
)
