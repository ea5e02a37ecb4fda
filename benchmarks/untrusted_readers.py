"""Every reader of files that others wrote, with small valid files to start from and what is asked of an answer.

A reader takes a file, or a folder of which one file is foreign, and answers or raises one of the SDK's errors in
a line. `fuzz_readers.py` runs them on what a fuzzer makes of the seeds; its page lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from reader_places import beside_pictures, beside_weights, in_folder, npz, sealed_report, tar
from reader_seeds import Seeds

Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Reader:
    """`seeds` are valid files; `place` puts the bytes of one where `read` finds it, and says where that is."""

    name: str
    files: str  # what is read, in words
    functions: str  # that read it
    seeds: Callable[[Seeds], list[bytes]]
    read: Read
    suffix: str = ""
    place: Callable[[Path, bytes], Path] | None = None


def _checked(answer: Any) -> None:
    """Raise AssertionError unless tensors and arrays are what they say: whole, and safe to touch to the last byte."""
    for tensor in answer.values():
        assert tensor.is_contiguous()
        float(tensor.double().sum()) if tensor.numel() else None


def _tensors(path: Path) -> None:
    from mobilevit_sdk.checkpoints.tensor_file import read_tensors

    _checked(read_tensors(path).tensors)


def _checkpoint(path: Path) -> None:
    from mobilevit_sdk.checkpoints.load import load_checkpoint
    from mobilevit_sdk.models.registry import build_model

    loaded = load_checkpoint(path)
    expected = {name: tensor.shape for name, tensor in build_model(loaded.spec).state_dict().items()}
    found = loaded.model.state_dict()
    assert {name: tensor.shape for name, tensor in found.items()} == expected
    assert all(tensor.isfinite().all() for tensor in found.values())
    msgspec.json.encode(loaded.spec)


def _task(path: Path) -> None:
    from mobilevit_sdk.checkpoints.task_file import inspect_task, read_task

    _checked(read_task(path).tensors)
    assert inspect_task(path) is not None


def _state(path: Path) -> None:
    import torch

    from mobilevit_sdk.training.state import read_state

    read_state(path, path.read_bytes(), _identity(), torch.device("cpu"))


@cache
def _identity() -> Any:
    from small_networks import small_specs

    from mobilevit_sdk.recipe import Recipe
    from mobilevit_sdk.training.state import Identity

    return Identity(small_specs()["vit"], Recipe(), "0" * 64, None)


def _inspected(format_name: str, backend: str | None = None) -> Read:
    def inspect(path: Path) -> None:
        from mobilevit_sdk.formats.converter import find_converter

        msgspec.json.encode(find_converter(format_name, backend).inspect(path))

    return inspect


def _artifact(path: Path) -> None:
    from mobilevit_sdk.artifacts.artifact import open_artifact

    found = open_artifact(path)
    assert found.path.parent == path
    msgspec.json.encode(found.manifest)


def _reference(path: Path) -> None:
    from small_networks import small_specs

    from mobilevit_sdk.artifacts.reference import read_reference

    read_reference(path, small_specs()["vit"])


def _json_file(module: str, function: str) -> Read:
    def read(path: Path) -> None:
        getattr(__import__(module, fromlist=[function]), function)(path)

    return read


def _metrics(path: Path) -> None:
    from mobilevit_sdk.training.metrics import read_metrics

    read_metrics(path, 10)


def _space(path: Path) -> None:
    from mobilevit_sdk.errors import RequestError
    from mobilevit_sdk.recipe import Recipe
    from mobilevit_sdk.training.search_space import parse_values, with_values

    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:  # the command line decodes its arguments
        raise RequestError("not text") from error
    name, _, values = text.partition("=")
    found = parse_values(values)
    for value in found.values[:2]:
        with_values(Recipe(), {name: value})


def _release(path: Path) -> None:
    from small_networks import small_specs

    from mobilevit_sdk.checkpoints.beside.files import read_beside

    weights = path / "model.safetensors"
    read_beside(weights, "the release", small_specs()["vit"], "transformers ViT", classifies=True)


def _stored_labels(path: Path) -> None:
    from mobilevit_sdk.training.label_store import read_epoch, read_manifest

    manifest = read_manifest(path)
    epoch = read_epoch(path, manifest.top_k, 0, manifest.classes)
    keys = list(epoch.keys())
    epoch.at(np.arange(min(len(keys), 64)))


def _dataset(path: Path) -> None:
    from mobilevit_sdk.data import open_dataset

    _used(open_dataset(path))


def _shards(path: Path) -> None:
    from mobilevit_sdk.data import open_dataset
    from mobilevit_sdk.files import Address

    _used(open_dataset(Address(f"{path.parent}/*{path.suffix}")))


def _used(images: Any) -> None:
    """What a training does with a dataset: the first and the last picture, and everything about them."""
    from mobilevit_sdk.errors import RequestError

    assert images.labels is None or len(images.labels) == len(images)
    for row in {0, len(images) - 1} if len(images) else ():
        try:
            images.image(row)
        except RequestError:
            continue
        if images.storage is None:
            images.at([row]).checked()


def _picture(path: Path) -> None:
    from mobilevit_sdk.data.dataset import ImageDataset
    from mobilevit_sdk.data.folder import open_pictures

    images: ImageDataset = open_pictures([path])
    picture = images.image(0)
    assert picture.mode == "RGB"
    assert picture.size == images.checked().image(0).size


_SDK = "mobilevit_sdk"
READERS = (
    Reader("safetensors", "`.safetensors` checkpoint", "`load_checkpoint`", Seeds.safetensors, _checkpoint),
    Reader("torch", "`.pth`, `.pt`, `.bin`: zip", "`read_tensors`", Seeds.torch_zip, _tensors, ".pth"),
    Reader("torch-legacy", "`.pth` before torch 1.6: pickles", "`read_tensors`", Seeds.torch_legacy, _tensors, ".pth"),
    Reader("npz", "`.npz` of Google's ViT", "`read_tensors`", Seeds.npz, _tensors, ".npz", npz),
    Reader(
        "index",
        "`model.safetensors.index.json` and its files",
        "`read_tensors`",
        Seeds.index,
        _tensors,
        ".json",
        beside_weights,
    ),
    Reader(
        "release",
        "`config.json`, `preprocessor_config.json`",
        "`read_beside`",
        read=_release,
        **in_folder(Seeds.release),
    ),
    Reader(
        "labels",
        "class names, text or JSON",
        "`read_labels`",
        Seeds.class_names,
        _json_file(f"{_SDK}.checkpoints.labels", "read_labels"),
    ),
    Reader("task", "task file", "`read_task`", Seeds.task, _task, ".safetensors"),
    Reader("state", "state of a training", "`read_state`", Seeds.state, _state, ".pt"),
    Reader("metrics", "metrics of a training", "`read_metrics`", Seeds.metrics, _metrics),
    Reader(
        "manifest", "`manifest.json` of an artifact", "`open_artifact`", read=_artifact, **in_folder(Seeds.manifest)
    ),
    Reader("reference", "reference vectors", "`read_reference`", Seeds.reference, _reference, ".safetensors"),
    Reader("tflite", "`.tflite`", "`inspect`", Seeds.phone_file("tflite"), _inspected("tflite"), ".tflite"),
    Reader("executorch", "`.pte`", "`inspect`", Seeds.phone_file("executorch"), _inspected("executorch"), ".pte"),
    Reader(
        "executorch-coreml",
        "`.pte` for Core ML",
        "`inspect`",
        Seeds.phone_file("executorch-coreml"),
        _inspected("executorch", "coreml"),
        ".pte",
    ),
    Reader(
        "executorch-vulkan",
        "`.pte` for Vulkan",
        "`inspect`",
        Seeds.phone_file("executorch-vulkan"),
        _inspected("executorch", "vulkan"),
        ".pte",
    ),
    Reader(
        "executorch-coreai",
        "`.pte` for Core AI",
        "`inspect`",
        Seeds.phone_file("executorch-coreai"),
        _inspected("executorch", "coreai"),
        ".pte",
    ),
    Reader("onnx", "`.onnx`", "`inspect`", Seeds.phone_file("onnx"), _inspected("onnx"), ".onnx"),
    Reader(
        "coreml",
        "`.mlpackage`",
        "`inspect`",
        read=_inspected("coreml"),
        suffix=".mlpackage",
        **in_folder(Seeds.package("coreml")),
    ),
    Reader(
        "coreai",
        "`.aimodel`",
        "`inspect`",
        read=_inspected("coreai"),
        suffix=".aimodel",
        **in_folder(Seeds.package("coreai")),
    ),
    Reader("recipe", "training recipe", "`read_recipe`", Seeds.recipe, _json_file(f"{_SDK}.recipe", "read_recipe")),
    Reader(
        "quantization",
        "quantization recipe",
        "`read_recipe`",
        Seeds.quantization,
        _json_file(f"{_SDK}.formats.quantization", "read_recipe"),
    ),
    Reader("space", "values of a sweep", "`parse_values`", Seeds.space, _space),
    Reader(
        "stored-labels",
        "labels of `mobilevit label`",
        "`read_manifest`, `read_epoch`",
        read=_stored_labels,
        **in_folder(Seeds.stored_labels),
    ),
    Reader("parquet", "Parquet file of images", "`open_dataset`", Seeds.parquet, _dataset, ".parquet"),
    Reader("parquet-shards", "Parquet files, read by group", "`open_dataset`", Seeds.parquet, _shards, ".parquet"),
    Reader("tar", "WebDataset's tar files", "`open_dataset`", Seeds.tar, _shards, ".tar", tar),
    Reader("coco", "COCO JSON", "`open_dataset`", Seeds.coco, _dataset, ".json", beside_pictures),
    Reader("metadata", "`metadata.jsonl` of a folder", "`open_dataset`", read=_dataset, **in_folder(Seeds.metadata)),
    Reader("picture", "pictures", "`decode_picture`", Seeds.pictures, _picture),
    Reader(
        "device-report",
        "report of a phone",
        "`read_device_report`",
        Seeds.device_report,
        _json_file(f"{_SDK}.parity.device.files", "read_device_report"),
        ".json",
        sealed_report,
    ),
    Reader(
        "verdicts",
        "`verdicts.json`",
        "`read_baseline`",
        Seeds.verdicts,
        _json_file(f"{_SDK}.parity.drift", "read_baseline"),
    ),
)
BY_NAME = {reader.name: reader for reader in READERS}
