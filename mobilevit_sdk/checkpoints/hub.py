"""Checkpoints on the Hugging Face hub: the weights, and the labels and preprocessing that stand beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import read_text
from mobilevit_sdk.spec import Preprocessing
from mobilevit_sdk.text import one_line

PREFIX = "hf-hub:"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there
_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_RESIZE_MODES = {"center": "shorter", "squash": "squash"}  # timm's names, ours
_INTERPOLATION = {2: "bilinear", 3: "bicubic"}  # PIL's numbers, which transformers writes


class _TimmConfig(msgspec.Struct):
    """The part of timm's `pretrained_cfg` that says how to preprocess."""

    input_size: tuple[int, int, int] | None = None
    interpolation: str | None = None
    crop_pct: Annotated[float, msgspec.Meta(ge=0.1, le=1)] | None = None
    crop_mode: str = "center"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


class _Config(msgspec.Struct):
    """The part of `config.json` that we read, of transformers (`id2label`) and timm (the rest)."""

    id2label: dict[int, str] | None = None
    label_names: tuple[str, ...] | None = None
    pretrained_cfg: _TimmConfig | None = None


class _Processor(msgspec.Struct):
    """The part of `preprocessor_config.json` that we read; older files give sizes as numbers and flip_channels."""

    size: int | dict[str, int] | None = None
    crop_size: int | dict[str, int] | None = None
    resample: int | None = None
    do_flip_channel_order: bool | None = None
    do_flip_channels: bool | None = None
    do_resize: bool | None = None
    do_center_crop: bool | None = None


T = TypeVar("T", _Config, _Processor)


def download(source: str) -> Path:
    """The local copy of the weights of `hf-hub:org/name`, with the files that describe them beside it.

    Raises CheckpointError when there is no such repository, it has no weights, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    repository = source.removeprefix(PREFIX)

    def fetch(names: tuple[str, ...]) -> Path | None:
        for name in names:
            try:
                return Path(hf_hub_download(repository, name))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
        return None

    try:
        weights = fetch(WEIGHTS)
        if weights is None:
            raise CheckpointError(f"{source} has no {' or '.join(WEIGHTS)}")
        for companion in (_CONFIG, _PROCESSOR):
            fetch((companion,))
    except HFValidationError as error:
        raise CheckpointError(f"{source} names no repository; write {PREFIX}organization/name") from error
    except GatedRepoError as error:
        raise CheckpointError(f"{source} is gated: accept its terms on the hub, then `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"{source} does not exist on the hub, or is private (`hf auth login`)") from error
    except OSError as error:  # offline, no route, a proxy, a full disk: all of the hub's and httpx's others
        reason = one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise CheckpointError(
            f"{source} is not in the local cache and the hub cannot be reached ({reason}); give a local file"
        ) from error
    return weights


def read_labels(folder: Path, num_classes: int, source: str) -> tuple[str, ...] | None:
    """The class names in the `config.json` of `folder`, or None. Raises CheckpointError when their number is wrong."""
    config = _read(folder / _CONFIG, _Config, source)
    if config.label_names is not None:
        labels = config.label_names
    elif config.id2label is not None:
        if sorted(config.id2label) != list(range(len(config.id2label))):
            raise CheckpointError(f"{source}: id2label of {_CONFIG} does not number its classes from 0 without gaps")
        labels = tuple(config.id2label[i] for i in range(len(config.id2label)))
    else:
        return None
    if len(labels) != num_classes:
        raise CheckpointError(f"{source}: {_CONFIG} names {len(labels)} classes, but the head has {num_classes}")
    placeholders = tuple(f"LABEL_{i}" for i in range(num_classes))  # what transformers writes where nobody gave names
    return None if labels == placeholders else labels


def read_preprocessing(folder: Path, default: Preprocessing, source: str) -> Preprocessing:
    """What the files in `folder` say about preprocessing, over `default`. Raises CheckpointError for what we lack."""
    timm = _read(folder / _CONFIG, _Config, source).pretrained_cfg
    processor = _read(folder / _PROCESSOR, _Processor, source)
    try:
        changes = _from_timm(timm, default) if timm is not None else _from_transformers(processor, default)
        return msgspec.convert(msgspec.to_builtins(default) | changes, Preprocessing)
    except (ValueError, KeyError) as error:  # msgspec's errors are ValueErrors
        reason = f"no {error}" if isinstance(error, KeyError) else one_line(str(error))
        raise CheckpointError(f"{source}: its preprocessing is none we can reproduce: {reason}") from error


def _from_timm(config: _TimmConfig, default: Preprocessing) -> dict[str, Any]:
    if config.crop_mode not in _RESIZE_MODES:
        raise ValueError(f"crop_mode {config.crop_mode!r}, expected {' or '.join(map(repr, _RESIZE_MODES))}")
    changes = {name: getattr(config, name) for name in ("interpolation", "mean", "std")}
    size = config.input_size[1:] if config.input_size else default.image_size
    share = config.crop_pct or min(default.image_size) / default.resize_size
    if config.crop_mode == "squash" and share < 1:
        raise ValueError(f"crop_mode 'squash' with crop_pct {share}, expected 1")
    changes |= {
        "image_size": size,
        "resize_size": int(min(size) / share),
        "resize_mode": _RESIZE_MODES[config.crop_mode],
    }
    return {name: value for name, value in changes.items() if value is not None}


def _from_transformers(processor: _Processor, default: Preprocessing) -> dict[str, Any]:
    if False in (processor.do_resize, processor.do_center_crop):
        raise ValueError("it leaves out the resize or the center crop")
    changes: dict[str, Any] = {}
    if isinstance(processor.size, dict):
        changes["resize_size"] = processor.size["shortest_edge"]
    elif processor.size is not None:
        changes["resize_size"] = processor.size
    if isinstance(processor.crop_size, dict):
        changes["image_size"] = (processor.crop_size["height"], processor.crop_size["width"])
    elif processor.crop_size is not None:
        changes["image_size"] = (processor.crop_size, processor.crop_size)
    if processor.resample is not None:
        changes["interpolation"] = _INTERPOLATION.get(processor.resample, f"resample {processor.resample}")
    flips = (processor.do_flip_channel_order, processor.do_flip_channels)
    if (flip := next((f for f in flips if f is not None), None)) is not None:
        changes["channel_order"] = "bgr" if flip else "rgb"
    return changes


def _read(path: Path, kind: type[T], source: str) -> T:
    try:
        return msgspec.json.decode(read_text(path), type=kind)
    except FileNotFoundError:
        return kind()
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise CheckpointError(
            f"{source}: cannot read {path.name} beside the weights: {one_line(str(error))}"
        ) from error
