"""The part of a conversion that runs in a process of its own: from a checkpoint on disk to a phone file."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.deployment import PhoneGraph, audit, deploy
from mobilevit_sdk.errors import ConversionWarning, ToolchainError
from mobilevit_sdk.formats.converter import Converter, Inspection, find_converter, toolchain_versions
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.models.registry import is_ours
from mobilevit_sdk.processes.child import emit
from mobilevit_sdk.processes.process import peak_memory_bytes
from mobilevit_sdk.quantization.preparation import prepare
from mobilevit_sdk.spec import ModelSpec


@dataclass(frozen=True)
class Job:
    """What one child converts."""

    format: str
    backend: str | None
    precision: str
    weights: Path
    out: Path  # the file to write
    quantization: Quantization | None = None


@dataclass(frozen=True)
class Converted:
    """What a child tells of the file that it wrote."""

    inspection: Inspection
    tools: dict[str, str]
    peak_memory_bytes: int
    warnings: tuple[str, ...]


def convert_in_child(job: Job) -> Converted:
    """`convert_file` for a process that does nothing else."""
    gc.disable()  # the collector would walk through millions of objects, nearly all alive: a sixth of the time
    return convert_file(job)


def convert_file(job: Job) -> Converted:
    """Deploy the checkpoint for the format's target, convert it, read the file back."""
    converter = find_converter(job.format, job.backend)
    emit("deploy")
    checkpoint = load_checkpoint(job.weights)
    graph = deploy(
        checkpoint.model,
        converter.target,
        preprocessing=checkpoint.spec.preprocessing,
        quantized=job.quantization is not None,
    )
    if job.quantization:
        prepare(graph, job.quantization, job.precision)
    findings = _audit(graph, converter, checkpoint.spec)
    emit("convert")
    with conversion_warnings() as notes:
        converter.convert(graph, checkpoint.spec, job.precision, job.out, job.quantization)
    emit("inspect")
    inspection = converter.inspect(job.out)
    return Converted(inspection, toolchain_versions(converter), peak_memory_bytes(), (*findings, *notes))


@contextmanager
def conversion_warnings() -> Iterator[list[str]]:
    """Collect the messages of ConversionWarnings; other warnings are shown as ever."""
    notes: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, ConversionWarning):
                notes.append(str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = keep
        warnings.simplefilter("always", ConversionWarning)
        yield notes


def _audit(graph: PhoneGraph, converter: Converter, spec: ModelSpec) -> tuple[str, ...]:
    """What the target would not take whole, as warnings. Raises ToolchainError where the SDK itself made the graph."""
    findings = audit(graph, converter.target, graph.image_size)
    if not findings:
        return ()
    summary = f"{converter.target} will not take {len(findings)} operators of {spec.model} whole, such as {findings[0]}"
    if is_ours(spec.family):
        raise ToolchainError(f"{summary}; this is a defect of the SDK, please report it")
    return (summary,)
