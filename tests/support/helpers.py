"""Small networks with weights that hide nothing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from torch import nn

from mobilevit_sdk.artifacts.artifact import Artifact, Manifest, open_artifact, write_manifest
from mobilevit_sdk.artifacts.reference import Reference, reference_of, write_reference
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.formats.converter import TensorInfo
from mobilevit_sdk.models.mobilevit import MobileViTConfig, StageConfig
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.spec import ModelSpec, Origin, Preprocessing

REPOSITORY = Path(__file__).parents[2]


def tiny_spec(num_classes: int = 5, image_size: int = 32) -> ModelSpec:
    """A MobileViT with two stages, one of them with attention: all the blocks, almost no cost."""
    config = MobileViTConfig(
        stages=(
            StageConfig(channels=8, blocks=2, stride=1),
            StageConfig(channels=12, blocks=1, stride=2, dim=16, mlp_dim=24, depth=2),
        ),
        expansion=2,
        final_channels=24,
        stem_channels=8,
        num_classes=num_classes,
    )
    return ModelSpec(
        model="mobilevit_xxs",
        family="mobilevit",
        config=msgspec.to_builtins(config),
        preprocessing=Preprocessing(
            image_size=(image_size, image_size),
            resize_size=image_size,
            channel_order="bgr",
            mean=(0.4, 0.45, 0.5),
            std=(0.22, 0.23, 0.25),
        ),
        labels=tuple(f"class {i}" for i in range(num_classes)),
    )


def tiny_model(seed: int = 0, **kwargs: int) -> tuple[nn.Module, ModelSpec]:
    """The network of `tiny_spec` with random weights, in eval mode."""
    spec = tiny_spec(**kwargs)
    return randomize(build_model(spec), seed).eval(), spec


@cache
def tiny_reference() -> Reference:
    """The built-in cases, and the answers of `tiny_model` to them; read only."""
    model, spec = tiny_model()
    return reference_of(model, spec.preprocessing, builtin_cases(spec.preprocessing))


def without_normalization(spec: ModelSpec) -> ModelSpec:
    """For images as they are: the phone graph then begins with the network."""
    preprocessing = msgspec.structs.replace(
        spec.preprocessing, channel_order="rgb", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    return msgspec.structs.replace(spec, preprocessing=preprocessing)


def write_artifact(folder: Path, spec: ModelSpec, reference: Reference, *, precision: str = "fp32") -> Artifact:
    """An artifact of the format "fake" whose file holds nothing; everything beside it is real."""
    folder.mkdir(parents=True)
    file = folder / f"{spec.model}.fake"
    file.write_bytes(b"a phone file")
    sha256, size = hash_and_size(file)
    manifest = Manifest(
        file=file.name,
        format="fake",
        precision=precision,
        target="xnnpack",
        bytes=size,
        sha256=sha256,
        spec=spec,
        config_sha256=spec.config_sha256,
        origin=Origin(source="mobilevit_xxs", layout="random weights", random_weights_seed=0),
        tools={},
        seconds=1.0,
        peak_memory_bytes=1,
        inputs=(TensorInfo(name="image", shape=(1, 3, *spec.preprocessing.image_size), dtype="float32"),),
        outputs=(TensorInfo(name="logits", shape=(1, spec.num_classes), dtype="float32"),),
        operators={"conv": 3},
        max_rank=4,
        delegates=1,
        undelegated_ops={},
    )
    write_reference(folder, reference, spec)
    write_manifest(folder, manifest)
    return open_artifact(folder)


def load_benchmark(name: str) -> ModuleType:
    """A script of benchmarks/ as a module."""
    path = REPOSITORY / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def refused(path: Path | str, **options: Any) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path)).strip(" :")


def sampled(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Parameters of a test: `kept` of the values by default, the others where every combination is tested."""
    found = list(values)
    assert set(kept) <= set(found)
    return [value if value in kept else pytest.param(value, marks=pytest.mark.exhaustive) for value in found]
