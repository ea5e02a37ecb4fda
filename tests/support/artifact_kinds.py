"""Artifacts of every kind that apps come across: real manifests and vectors beside a file that holds nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from helpers import tiny_spec, write_artifact

from mobilevit_sdk.artifacts.artifact import Artifact, write_manifest
from mobilevit_sdk.artifacts.quantization_record import Judgment, QuantizationRecord
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.formats.app_input import app_input_of
from mobilevit_sdk.formats.converter import TensorInfo
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.spec import ModelSpec


def rejected_record() -> QuantizationRecord:
    """Of an artifact that keeps the class of half the images."""
    rejected = Judgment(
        runtime="litert-cpu",
        images=100,
        agreement=0.5,
        min_agreement=0.93,
        worst_sqnr_db=1.0,
        median_sqnr_db=2.0,
        top1_float=None,
        top1=None,
        rejected=True,
        reasons=("the same class on 50 of 100 images is below 93%",),
    )
    return QuantizationRecord(
        recipe=QuantizationRecipe(),
        images="a folder",
        data_free=False,
        calibrated_with=100,
        images_sha256="0" * 64,
        judgment=rejected,
    )


def write_kinds(folder: Path) -> dict[str, Artifact]:
    """Write them into `folder`; by name. Those whose name begins with `other` are not for Android or take no image."""
    classifier = tiny_spec(num_classes=3, image_size=24)
    squashed = _changed(classifier, image_size=(24, 32), resize_mode="squash", interpolation="bicubic")
    cropped = _changed(classifier, image_size=(24, 24), resize_size=27)
    unnamed = msgspec.structs.replace(cropped, labels=None)
    one = msgspec.structs.replace(unnamed, config={**unnamed.config, "num_classes": 1})
    pooled, maps = (msgspec.structs.replace(unnamed, features=kind) for kind in ("pooled", "map"))
    return {
        name: _write(folder / name, *row)
        for name, row in {
            "classifier": (cropped, "tflite", (3,)),
            "squashed": (squashed, "executorch", (3,), {"backend": "xnnpack"}),
            "without labels": (unnamed, "tflite", (3,), {"precision": "fp16"}),
            "one score": (one, "tflite", (1,)),
            "pooled features": (pooled, "executorch", (5,), {"backend": "xnnpack"}),
            "map of features": (maps, "tflite", (5, 3, 2)),
            "rejected": (cropped, "tflite", (3,), {"precision": "int8", "quantization": rejected_record()}),
            "other system": (cropped, "executorch", (3,), {"backend": "coreml"}),
            "other format": (cropped, "coreml", (3,)),
            "other input": (cropped, "tflite", (3,), {"app_input": None}),
        }.items()
    }


def _changed(spec: ModelSpec, **changes) -> ModelSpec:
    return msgspec.structs.replace(spec, preprocessing=msgspec.structs.replace(spec.preprocessing, **changes))


def _write(
    folder: Path, spec: ModelSpec, format: str, answer: tuple[int, ...], changes: dict | None = None
) -> Artifact:
    random, (height, width) = np.random.default_rng(3), spec.preprocessing.image_size
    cases = tuple(
        Case(name, random.integers(0, 256, (3, height, width), np.uint8), role=role)
        for name, role in (("view, one", "view"), ("noise", "edge"), ("größe ✓", "image"))
    )
    answers = random.normal(size=(len(cases), int(np.prod(answer)))).astype(np.float32)
    artifact = write_artifact(folder, spec, Reference(cases, answers, (answer,)))
    shape = (1, height, width, 3) if format == "tflite" else (1, 3, height, width)
    inputs = (TensorInfo(name="image", shape=shape, dtype="float32"),)
    named = {"format": format, "inputs": inputs, "app_input": app_input_of(inputs, spec.preprocessing)}
    manifest = msgspec.structs.replace(artifact.manifest, **{**named, **(changes or {})})
    write_manifest(folder, manifest)
    return Artifact(artifact.path, manifest)
