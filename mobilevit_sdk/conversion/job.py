"""A conversion as a child process gets it: names and paths, with the network's weights in a file."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.checkpoints.load import load_weights
from mobilevit_sdk.conversion.phone_file import PhoneFile, write_phone_file
from mobilevit_sdk.formats.converter import find_converter, toolchain_versions
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.models.resize import networks_at_sizes
from mobilevit_sdk.processes.child import emit
from mobilevit_sdk.processes.process import peak_memory_bytes
from mobilevit_sdk.quantization.smoothing import Smoothing
from mobilevit_sdk.spec import ModelSpec


@dataclass(frozen=True)
class Job:
    """What one child converts; see `write_phone_file`."""

    spec: ModelSpec
    weights: Path  # as `save_checkpoint` wrote them
    format: str
    backend: str | None
    precision: str
    out: Path  # the file to write
    quantization: Quantization | None = None
    smoothing: Smoothing | None = None
    stored: ModelSpec | None = None  # of the weights, where `spec` has several image sizes
    record: Path | None = None  # of the conversion, to write


@dataclass(frozen=True)
class Converted:
    """The file that a child wrote, and what it took."""

    file: PhoneFile
    tools: dict[str, str]  # package -> version
    peak_memory_bytes: int


def run_job(job: Job) -> Converted:
    """In a child process: write the file of `job`, emitting steps."""
    gc.disable()  # the collector would walk through millions of objects, nearly all alive: a sixth of the time
    converter = find_converter(job.format, job.backend)
    if job.stored:
        model, *others = networks_at_sizes(load_weights(job.weights, job.stored), job.stored, job.spec)
    else:
        model, others = load_weights(job.weights, job.spec), []
    file = write_phone_file(
        model,
        job.spec,
        converter,
        job.precision,
        job.out,
        quantization=job.quantization,
        smoothing=job.smoothing,
        others=others,
        record=job.record,
        progress=emit,
    )
    return Converted(file, toolchain_versions(converter), peak_memory_bytes())
