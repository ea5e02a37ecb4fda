"""The files for developer tools beside a phone file: which a format has, and how they are written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.conversion.plan import Conversion
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.formats.extras import Extra, ExtraKind, WritesExtras
from mobilevit_sdk.parity import Threshold
from mobilevit_sdk.processes.child import run_in_child
from mobilevit_sdk.spec import ModelSpec

SUFFIXES: dict[ExtraKind, str] = {"bundle": ".bpte", "etrecord": ".etrecord"}
# An error of one value, in those that the threshold allows on average.
_MAX_SHARE = 4


def plan_extras(plan: Sequence[Conversion], kinds: Collection[ExtraKind], spec: ModelSpec) -> list[str]:
    """Notes on conversions that make no such files. Raises RequestError where none makes one of `kinds`."""
    notes = []
    for kind in kinds:
        refusals = {each.name: refusal for each in plan if (refusal := _refusal(each, kind, spec))}
        if len(refusals) == len(plan):
            name, refusal = next(iter(refusals.items()))
            raise RequestError(f"{name} has no `{kind}`: {refusal}")
        notes += [f"{name} has no `{kind}`: {refusal}" for name, refusal in refusals.items()]
    return notes


def extras_of(conversion: Conversion, kinds: Collection[ExtraKind], spec: ModelSpec) -> tuple[ExtraKind, ...]:
    """Those of `kinds` that a conversion makes."""
    return tuple(kind for kind in kinds if not _refusal(conversion, kind, spec))


def _refusal(conversion: Conversion, kind: ExtraKind, spec: ModelSpec) -> str | None:
    converter = conversion.converter
    if isinstance(converter, WritesExtras):
        return converter.refuses_extra(kind, spec)
    return f"only {'.pte files have' if kind == 'bundle' else 'conversions to executorch have'} one"


@dataclass(frozen=True)
class Bundling:
    """What a child bundles; see `WritesExtras.bundle`."""

    format: str
    backend: str | None
    precision: str
    file: Path
    images: list[np.ndarray]
    answers: np.ndarray
    atol: float
    bundled: Path


def run_bundling(job: Bundling) -> str | None:
    """In a child process: write and run the bundle. Returns why it was not run, or None."""
    converter = find_converter(job.format, job.backend)
    assert isinstance(converter, WritesExtras)
    return converter.bundle(job.file, job.precision, job.images, list(job.answers), job.atol, job.bundled)


def write_extras(
    conversion: Conversion, kinds: Sequence[ExtraKind], file: Path, reference: Reference, threshold: Threshold
) -> tuple[tuple[Extra, ...], tuple[str, ...]]:
    """The files beside `file`, of which the conversion wrote its record, and warnings.

    A bundle's answers may be off by four times the error that the SQNR of `threshold` allows on average. Raises
    ToolchainError where they are further off.
    """
    found, warnings = [], []
    for kind in kinds:
        path = file.with_suffix(SUFFIXES[kind])
        atol: float | msgspec.UnsetType = msgspec.UNSET
        if kind == "bundle":
            converter = conversion.converter
            root_mean_square = float(np.sqrt(np.mean(np.square(reference.answers, dtype=np.float64))))
            atol = float(f"{_MAX_SHARE * root_mean_square * 10 ** (-threshold.sqnr_db / 20):.3g}")
            images = [case.image for case in reference.cases]
            names = converter.format, converter.backend, conversion.precision
            if refusal := run_in_child(run_bundling, Bundling(*names, file, images, reference.answers, atol, path)):
                warnings.append(f"the test vectors in {path.name} were not run here: {refusal}")
        sha256, size = hash_and_size(path)
        found.append(Extra(kind=kind, file=path.name, bytes=size, sha256=sha256, atol=atol))
    return tuple(found), tuple(warnings)
