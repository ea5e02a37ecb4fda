"""What the tests of the converters share: a small model, its phone file, and how near their answers are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from made_once import in_this_process, made_once
from tiny_networks import phone_checkpoint
from torch import nn

from mobilevit_sdk import convert, load_checkpoint, save_checkpoint
from mobilevit_sdk.artifacts.artifact import Artifact, Manifest, find_artifacts
from mobilevit_sdk.artifacts.reference import Reference, reference_of
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.formats.converter import Converter, find_converter
from mobilevit_sdk.formats.runtime import Runtime
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, model_spec, spec_at_size
from mobilevit_sdk.parity.metrics import Agreement, compare
from mobilevit_sdk.spec import ModelSpec, Origin


@dataclass(frozen=True)
class PhoneFile:
    """A file, the deployed network in it, and what the reference model answers."""

    path: Path
    graph: nn.Module
    spec: ModelSpec
    reference: Reference

    def agreement(self, converter: Converter) -> Agreement:
        """How near the answers of the first runtime that runs here are to those of the reference model."""
        answer = runtime_of(converter).load(self.path)
        return compare(self.reference.answers, np.stack([answer(case.as_passed()) for case in self.reference.cases]))


def artifact_of(file: PhoneFile, converter: Converter, precision: str) -> Artifact:
    """The file as an artifact for the gate, with a manifest that is not written anywhere."""
    sha256, size = hash_and_size(file.path)
    manifest = Manifest(
        file=file.path.name,
        format=converter.format,
        backend=converter.backend,
        precision=precision,
        target=converter.target,
        bytes=size,
        sha256=sha256,
        spec=file.spec,
        config_sha256=file.spec.config_sha256,
        origin=Origin(source="a test", layout="random weights", random_weights_seed=0),
        tools={},
        seconds=1.0,
        peak_memory_bytes=1,
        inputs=(),
        outputs=(),
        operators={},
        max_rank=4,
        delegates=None,
        undelegated_ops=None,
    )
    return Artifact(file.path, manifest)


class SharedFiles:
    """Phone files of the tiny network of each family, at a size that needs resizing or padding.

    Every file is converted once a run, by `convert`, and shared between tests, files of tests and workers: read only.
    MobileViT's network has labels and a channel order of its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.checkpoint = cache(self._checkpoint)
        self.artifact = cache(self._artifact)
        self.file = cache(self._file)

    def _checkpoint(self, family: str = "mobilevit") -> Checkpoint:
        """From a file, as a user's."""

        def make(folder: Path) -> None:
            made = phone_checkpoint(family)
            save_checkpoint(made.model, made.spec, folder / f"{family}.safetensors")

        return load_checkpoint(made_once(self._folder / family, make) / f"{family}.safetensors")

    def _artifact(
        self, format: str, precision: str, family: str = "mobilevit", *, backend: str | None = None
    ) -> Artifact:
        """Skips the test where the toolchain is not installed."""
        converter, checkpoint = find_converter(format, backend), self.checkpoint(family)
        if not converter.availability():
            pytest.skip(str(converter.availability().reason))

        def make(out: Path) -> None:
            with in_this_process():
                choice = {"formats": [format], "precisions": [precision], "backend": backend}
                result = convert(checkpoint, out=out, check=False, **choice)
            assert result.failures == []

        (artifact,) = find_artifacts([made_once(self._folder / f"{family}-{format}-{backend}-{precision}", make)])
        return artifact

    def _file(self, format: str, precision: str, family: str = "mobilevit", *, backend: str | None = None) -> PhoneFile:
        """The file of `artifact`, with the graph that it was converted from."""
        artifact, checkpoint = self.artifact(format, precision, family, backend=backend), self.checkpoint(family)
        graph = deploy(checkpoint.model, find_converter(format, backend).target, checkpoint.spec)
        return PhoneFile(artifact.path, graph, checkpoint.spec, artifact.reference())


def runtime_of(converter: Converter) -> Runtime:
    """The converter's first runtime that runs here; skips the test where none does."""
    reasons = []
    for runtime in converter.runtimes:
        if runtime.availability():
            return runtime
        reasons.append(f"{runtime.name}: {runtime.availability().reason}")
    pytest.skip("; ".join(reasons))


def convert_model(converter: Converter, model: nn.Module, spec: ModelSpec, precision: str, folder: Path) -> PhoneFile:
    graph = deploy(model, converter.target, spec)
    path = folder / f"{spec.model}-{precision}{converter.suffix}"
    converter.convert(graph, spec, precision, path)
    return PhoneFile(path, graph, spec, reference_of(model, spec.preprocessing, builtin_cases(spec.preprocessing)))


def mobilevit_xxs(image_size: int) -> tuple[nn.Module, ModelSpec]:
    """The full-size network with ten classes and random weights, without labels."""
    spec = model_spec("mobilevit_xxs", num_classes=10)
    spec = spec_at_size(spec, image_size, image_size)
    return randomize(build_model(spec), 0).eval(), spec


def same_spec(found: ModelSpec | None, expected: ModelSpec) -> bool:
    """Equal as data: what is a tuple within the config is a list when it is read back."""
    return msgspec.json.encode(found) == msgspec.json.encode(expected)
