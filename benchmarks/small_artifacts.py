"""Artifacts of small networks of every family, format and backend: many at little cost, since a process makes them all.

What `mobilevit convert` does for each in a process of its own happens here in one process a format: the toolchains are
imported once. The files, vectors and manifests are the same, but for what a conversion measures of itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from shared import tell
from small_networks import small_specs

from mobilevit_sdk.artifacts.artifact import Artifact, Manifest, open_artifact, write_manifest
from mobilevit_sdk.artifacts.reference import reference_of_sizes, write_reference
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.files import hash_and_size, replacing
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.processes.child import run_in_child
from mobilevit_sdk.spec import MemoryTask, ModelSpec, Origin

# Format and backend, and whether all families are converted, or one of convolutions, one of patches and the detector.
_FORMATS = (
    ("onnx", None, True),
    ("tflite", None, True),
    ("executorch", None, True),
    ("coreml", None, True),
    ("coreai", None, True),
    ("executorch", "coreml", False),
    ("executorch", "coreai", False),
    ("executorch", "vulkan", False),
)
_FEW = ("mobilevit", "vit", "detr")


def small_artifacts(folder: Path, formats: Sequence[str] = ()) -> list[Artifact]:
    """All of them, or those of some formats, in `family/format-backend-precision`; those that are there are kept."""
    wanted = [each for each in _FORMATS if not formats or each[0] in formats]
    for format_name, backend, every in wanted:
        run_in_child(_make_all, folder, format_name, backend, every, threads=1)
        tell(f"{format_name} {backend or ''}")
    found = [open_artifact(each.parent) for each in sorted(folder.glob("*/*/manifest.json"))]
    return [each for each in found if not formats or each.manifest.format in formats]


def _specs(every: bool) -> Iterator[tuple[str, ModelSpec]]:
    specs = small_specs()
    yield from ((family, spec) for family, spec in specs.items() if every or family in _FEW)
    if every:
        task = MemoryTask(name="pets", num_classes=3, cells=2)
        yield "task", msgspec.structs.replace(specs["vit"], tasks=(task,))


def _make_all(folder: Path, format_name: str, backend: str | None, every: bool) -> None:
    """In a child process. All in float16, and a few in float32 where the format has it."""
    converter = find_converter(format_name, backend)
    for family, spec in _specs(every):
        for precision in ("fp16", "fp32") if family in _FEW else ("fp16",):
            name = "-".join(filter(None, (format_name, backend, precision)))
            if precision in converter.precisions and not (folder / family / name).exists():
                _make(folder / family / name, spec, format_name, backend, precision)


def _make(folder: Path, spec: ModelSpec, format_name: str, backend: str | None, precision: str) -> None:
    converter, model = find_converter(format_name, backend), random_checkpoint(spec, seed=0).model
    reference = reference_of_sizes([model], spec, builtin_cases)
    with replacing(folder) as fresh:
        fresh.mkdir()
        file = fresh / f"{spec.model}{converter.suffix}"
        converter.convert(deploy(model, converter.target, spec), spec, precision, file)
        write_reference(fresh, reference, spec)
        found = converter.inspect(file)
        sha256, size = hash_and_size(file)
        manifest = Manifest(
            file=file.name,
            format=format_name,
            precision=precision,
            backend=backend or converter.backend,
            target=converter.target,
            bytes=size,
            sha256=sha256,
            spec=spec,
            config_sha256=spec.config_sha256,
            origin=Origin(source=spec.model, layout="random weights", random_weights_seed=0),
            tools={},
            seconds=0.0,
            peak_memory_bytes=0,
            inputs=found.inputs,
            outputs=found.outputs,
            operators=found.operators,
            max_rank=found.max_rank,
            delegates=found.delegates,
            undelegated_ops=found.undelegated_ops,
        )
        write_manifest(fresh, manifest)
