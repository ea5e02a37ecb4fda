"""What the tests of the converters share: a small model, its phone file, and how near their answers are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from torch import nn

from mobilevit_sdk.artifacts.reference import Reference, reference_of
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.formats.converter import Converter
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, model_spec, spec_at_size
from mobilevit_sdk.parity.metrics import Agreement, compare
from mobilevit_sdk.spec import ModelSpec


@dataclass(frozen=True)
class PhoneFile:
    path: Path
    graph: nn.Module
    spec: ModelSpec
    reference: Reference

    def agreement(self, converter: Converter) -> Agreement:
        """How near the first runtime's answers are to those of the reference model."""
        answer = converter.runtimes[0].load(self.path)
        return compare(self.reference.logits, np.stack([answer(case.as_passed()) for case in self.reference.cases]))


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


def patched(file: PhoneFile, old: bytes, new: bytes) -> Path:
    """A copy of the file in which the one place that holds `old` holds `new`."""
    content = file.path.read_bytes()
    assert content.count(old) == 1
    copy = file.path.with_stem(f"{file.path.stem}-patched")
    copy.write_bytes(content.replace(old, new))
    return copy
