"""One phone file from one network: deploy, prepare for integers, audit, convert, read back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from mobilevit_sdk.deployment import PhoneGraph, audit, deploy
from mobilevit_sdk.errors import ConversionWarning, ToolchainError
from mobilevit_sdk.formats.converter import Converter, HoldsSizes, ImportsToolchain, Inspection
from mobilevit_sdk.formats.extras import WritesExtras
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.models.registry import is_ours
from mobilevit_sdk.models.resize import share_tensors
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.quantization.preparation import deploy_prepared, deploy_smoothed
from mobilevit_sdk.quantization.smoothing import Smoothing
from mobilevit_sdk.spec import ModelSpec


@dataclass(frozen=True)
class PhoneFile:
    """What a written file holds, what the static audit and the converter warn of, and how its channels are smoothed."""

    inspection: Inspection
    warnings: tuple[str, ...]
    smoothing: Smoothing | None = None


def write_phone_file(
    model: nn.Module,
    spec: ModelSpec,
    converter: Converter,
    precision: str,
    path: Path,
    *,
    quantization: Quantization | None = None,
    smoothing: Smoothing | None = None,
    others: Sequence[nn.Module] = (),
    record: Path | None = None,
    progress: Progress = silent,
) -> PhoneFile:
    """Convert `model` to the file `path`, and read the file back.

    `others` are the networks at the further image sizes of `spec`: the file then has an entry for each.
    Integer precisions need a `quantization`. With the `smoothing` of an integer file and without one, the graph is
    deployed as for integers and stays in floating point: what that file is compared with. `record` is where a converter
    that `WritesExtras` records the conversion of a single size. Raises ToolchainError where the toolchain fails, or
    where the audit finds a defect of the SDK.
    """
    progress(Step("deploy"))
    graphs = []
    for network, entry in zip((model, *others), spec.entries, strict=True):
        if quantization is not None:
            graph, smoothing = deploy_prepared(network, converter.target, entry, quantization, precision, progress)
        elif smoothing is not None:
            graph = deploy_smoothed(network, converter.target, entry, smoothing)
        else:
            graph = deploy(network, converter.target, entry)
        graphs.append(graph)
    share_tensors(graphs)
    progress(Step("audit"))
    findings = dict.fromkeys(finding for graph in graphs for finding in _audit(graph, converter, spec))
    if isinstance(converter, ImportsToolchain):
        progress(Step(f"import {converter.format}'s toolchain"))
        converter.import_toolchain()
    progress(Step("convert"))
    if quantization is not None:
        quantization = _reporting(quantization, progress)
    with conversion_warnings() as notes:
        if record is not None:
            assert isinstance(converter, WritesExtras)
            converter.convert_recorded(graphs[0], spec, precision, path, record, quantization)
        elif len(graphs) > 1:
            assert isinstance(converter, HoldsSizes)
            converter.convert_sizes(graphs, spec, precision, path, quantization)
        else:
            converter.convert(graphs[0], spec, precision, path, quantization)
    progress(Step("inspect"))
    inspection = converter.inspect(path)
    return PhoneFile(inspection, (*findings, *notes, *_hazards(inspection, spec)), smoothing)


def _reporting(quantization: Quantization, progress: Progress) -> Quantization:
    """Whoever goes through its images calibrates; what a converter does after that is to quantize."""

    def tell(step: Step) -> None:
        progress(step if step.done < (step.total or 0) else Step("quantize"))

    return replace(quantization, images=replace(quantization.images, progress=tell))


@contextmanager
def conversion_warnings() -> Iterator[list[str]]:
    """Collect the messages of ConversionWarnings; other warnings are shown as usual."""
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
    """Operators that stay outside the target's delegate, as warnings; an error where the SDK itself made the graph."""
    findings = audit(graph, converter.target, graph.image_size)
    if not findings:
        return ()
    summary = f"{converter.target} will not take {len(findings)} operators of {spec.model} whole, such as {findings[0]}"
    return (_defect_of_ours_or_warning(summary, spec),)


def _hazards(inspection: Inspection, spec: ModelSpec) -> tuple[str, ...]:
    """Forms in the written file that GPUs of phones get wrong, as a warning; an error where the graph is the SDK's."""
    if not inspection.hazards:
        return ()
    found = ", ".join(f"{count} x {form}" for form, count in inspection.hazards.items())
    summary = (
        f"the file of {spec.model} holds what GPUs of phones are reported to refuse or to compute wrongly: {found}"
    )
    return (_defect_of_ours_or_warning(summary, spec),)


def _defect_of_ours_or_warning(summary: str, spec: ModelSpec) -> str:
    if is_ours(spec.family):
        raise ToolchainError(f"{summary}; this is a defect of the SDK, please report it")
    return summary
