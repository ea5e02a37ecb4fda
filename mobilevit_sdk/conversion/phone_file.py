"""One phone file from one network: deploy, prepare for integers, audit, convert, read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mobilevit_sdk.deployment import PhoneGraph, audit, deploy
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.converter import Converter, Inspection
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.models.registry import is_ours
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.quantization.preparation import deploy_prepared
from mobilevit_sdk.spec import ModelSpec


@dataclass(frozen=True)
class PhoneFile:
    """What a written file holds, and what the static audit found where that is not an error."""

    inspection: Inspection
    warnings: tuple[str, ...]


def write_phone_file(
    model: nn.Module,
    spec: ModelSpec,
    converter: Converter,
    precision: str,
    path: Path,
    *,
    quantization: Quantization | None = None,
    quantized: bool = False,
    progress: Progress = silent,
) -> PhoneFile:
    """Convert `model` to the file `path`, and read the file back.

    Integer precisions need a `quantization`. With `quantized` and without one, the graph is deployed as for integers
    and stays in floating point: what an integer file is compared with. Raises ToolchainError where the toolchain fails,
    or where the audit finds a defect of the SDK.
    """
    progress(Step("deploy"))
    if quantization is None:
        graph = deploy(model, converter.target, spec, quantized=quantized)
    else:
        graph = deploy_prepared(model, converter.target, spec, quantization, precision)
    warnings = _audit(graph, converter, spec)
    progress(Step("convert"))
    converter.convert(graph, spec, precision, path, quantization)
    progress(Step("inspect"))
    return PhoneFile(converter.inspect(path), warnings)


def _audit(graph: PhoneGraph, converter: Converter, spec: ModelSpec) -> tuple[str, ...]:
    """Operators that stay outside the target's delegate, as warnings; an error where the SDK itself made the graph."""
    findings = audit(graph, converter.target, graph.image_size)
    if not findings:
        return ()
    summary = f"{converter.target} will not take {len(findings)} operators of {spec.model} whole, such as {findings[0]}"
    if is_ours(spec.family):
        raise ToolchainError(f"{summary}; this is a defect of the SDK, please report it")
    return (summary,)
