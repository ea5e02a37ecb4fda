"""The search: tap the artifact, convert its checkpoint afresh, tap that too, and compare both with the reference."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from mobilevit_sdk.artifacts.artifact import Artifact, ArtifactLike, find_artifact
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.bisection.comparison import align, compare_values
from mobilevit_sdk.bisection.graph import TracedGraph
from mobilevit_sdk.bisection.taps import read_taps
from mobilevit_sdk.bisection.tensor_alignment import Follower, Places, find_places
from mobilevit_sdk.bisection.verdict import (
    Bisection,
    Operator,
    blocks,
    broken,
    describe,
    differing,
    first_unplaced,
    weakest,
)
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.conversion.job import Job, run_job
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.formats.converter import Converter
from mobilevit_sdk.formats.quantization import QUANTIZED
from mobilevit_sdk.formats.runtime import as_row
from mobilevit_sdk.formats.runtime_ref import choose_runtime
from mobilevit_sdk.formats.taps import Tap, TappedRuntime
from mobilevit_sdk.parity import THRESHOLDS, Threshold, Verdict
from mobilevit_sdk.parity.gate import judge
from mobilevit_sdk.parity.images import checkpoint_of
from mobilevit_sdk.parity.runs import Run, run_cases
from mobilevit_sdk.parity.views import case_db, lowest_db, views_of
from mobilevit_sdk.processes.child import run_in_child
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.quantization.smoothing import Smoothing
from mobilevit_sdk.spec import ModelSpec, in_pixels

SAME_DB = 80.0  # of scores in float32 against those in float64; they reach more than 100
WORST_CASES = 2  # compared operator by operator, beside the first case

# The SQNR that a value of a fresh conversion needs in order to be identified with an operator's result.
MIN_DB = {"fp32": 60.0, "fp16": 30.0}
MIN_DB_QUANTIZED = 15.0
FALLBACK_DB = 6.0  # where the fresh conversion is wrong too


def bisect(
    artifact: ArtifactLike,
    *,
    checkpoint: Checkpoint | Path | str | None = None,
    runtime: str | None = None,
    image_size: tuple[int, int] | None = None,
    thresholds: Mapping[str, Threshold] | None = None,
    progress: Progress = silent,
) -> Bisection:
    """Find the first operator at which an artifact diverges from PyTorch, on the cases stored beside it.

    `artifact` is one that was opened, or its file or folder. The reference is the checkpoint that it was made from: the
    one that its manifest names, or `checkpoint`. That is converted again, and both files are compared with it operator
    by operator. `runtime` is by default the first of the format's that is available here and exposes intermediate
    values. Of a file with several input sizes, it is the entry for `image_size`, height and width in pixels, or that
    of the worst case. `thresholds` holds what the scores of each precision must reach, by default
    `parity.THRESHOLDS`. Raises CheckpointError when the checkpoint
    is gone or another one, ArtifactError for a file that does not load, RequestError for an unknown runtime or
    precision, and ToolchainError for a toolchain or runtime that is missing or fails.
    """
    artifact = find_artifact(artifact)
    manifest = artifact.manifest
    converter = artifact.converter
    tappable = [each for each in converter.runtimes if isinstance(each, TappedRuntime)]
    chosen = choose_runtime(converter, runtime, tappable, "expose intermediate values")
    ref = artifact.on(chosen.name)
    source = checkpoint_of(artifact, checkpoint)
    reference = artifact.reference()
    record = manifest.quantization
    smoothing = (record.smoothing if record else {}) if manifest.precision in QUANTIZED else None
    progress(Step(f"running {artifact.path.name} on {chosen.name}"))
    scores = run_in_child(run_cases, ref, reference.cases, threads=1)
    if scores.shape != reference.answers.shape:
        raise ArtifactError(
            f"{artifact.path} answers {scores.shape[1:]} scores, the reference {reference.answers.shape[1:]}"
        )
    verdict = judge(
        Run(artifact, chosen.name, chosen.availability().version, scores, reference), thresholds or THRESHOLDS
    )
    size = entry_to_search(manifest.spec, reference, scores, image_size)
    cases = worst_cases(manifest.spec, reference, scores, size)
    progress(Step(f"reading every value of {artifact.path.name}"))
    tapped = read_taps(ref, cases, size)
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as folder:
        progress(Step(f"converting {source.source} afresh"))
        fresh = convert_afresh(source, converter, manifest.precision, Path(folder), smoothing)
        progress(Step("reading every value of the fresh conversion"))
        fresh_tapped = read_taps(dataclasses.replace(ref, path=fresh), cases, size)
    progress(Step("comparing operator by operator"))
    index = manifest.spec.sizes.index(size) if size else 0
    graph = TracedGraph(source.networks()[index], manifest.target, manifest.spec.entries[index], smoothing)
    check_reference(artifact, graph, _of_size(reference, size))
    names = [output.name for output in manifest.spec.outputs]
    graph.followed = names.index(verdict.worst_output) if verdict.worst_output else 0
    found = diagnose(verdict, graph, cases, tapped, fresh_tapped)
    return msgspec.structs.replace(found, image_size=size) if size else found


def entry_to_search(
    spec: ModelSpec, reference: Reference, answers: np.ndarray, image_size: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The image size of the entry: the one asked for, or that of the worst case; None for a file of one size.

    Raises RequestError for a size that the file has no entry for.
    """
    if image_size is not None and image_size not in spec.sizes:
        known = ", ".join(map(in_pixels, spec.sizes))
        raise RequestError(f"the file takes images of {known}, not of {in_pixels(image_size)}")
    if not spec.image_sizes or image_size is not None:
        return image_size if spec.image_sizes else None
    worst = int(np.argmin(case_db(views_of(spec, reference, answers))))
    height, width = reference.cases[worst].image.shape[1:]
    return height, width


def worst_cases(
    spec: ModelSpec, reference: Reference, answers: np.ndarray, image_size: tuple[int, int] | None = None
) -> tuple[Case, ...]:
    """The cases to compare: the first, which is a photograph, and those with the worst answers; of one image size."""
    ours = _rows_of_size(reference, image_size)
    order = np.argsort(case_db(views_of(spec, reference, answers))[ours], kind="stable")
    return tuple(reference.cases[ours[i]] for i in dict.fromkeys([0, *order[:WORST_CASES].tolist()]))


def _rows_of_size(reference: Reference, image_size: tuple[int, int] | None) -> list[int]:
    rows = range(len(reference.cases))
    return [row for row in rows if image_size in (None, reference.cases[row].image.shape[1:])]


def _of_size(reference: Reference, image_size: tuple[int, int] | None) -> Reference:
    """The cases of one image size alone."""
    rows = _rows_of_size(reference, image_size)
    cases = tuple(reference.cases[row] for row in rows)
    return dataclasses.replace(reference, cases=cases, answers=reference.answers[rows])


def check_reference(artifact: Artifact, graph: TracedGraph, reference: Reference) -> None:
    """Raise ArtifactError where the answers stored beside an artifact are not those of the graph."""
    follower = Follower(graph, reference.cases[0].image)
    for step in graph.steps:
        follower.keep(step, follower.expected(step))
    answers = as_row([follower.value(node).numpy() for node in graph.answers])
    found = lowest_db(views_of(artifact.manifest.spec, reference, answers[None], rows=[0]))
    if found < SAME_DB:
        raise ArtifactError(
            f"the answers stored beside {artifact.path} are not those of its checkpoint ({found:.1f} dB): they are "
            f"another network's, or the phone graph is wrong; convert again"
        )


Tapped = tuple[tuple[Tap, ...], list[list[np.ndarray]]]  # taps, and [case][tap] values


def diagnose(
    verdict: Verdict,
    graph: TracedGraph,
    cases: Sequence[Case],
    tapped: Tapped,
    fresh_tapped: Tapped,
    places: Places | None = None,
) -> Bisection:
    """Explain the `verdict` of an artifact that ran: which operator is at fault, or is the weakest.

    `places` are those of the fresh conversion, where they are known already. Raises ToolchainError where the fresh
    conversion is so wrong that its values are not found in the reference.
    """
    assert verdict.agreement is not None
    missed, asked_db = verdict.status == "failed", verdict.thresholds.sqnr_db
    if places is None:
        places = places_of(graph, cases[0], fresh_tapped, verdict.precision)
    operators = _read(graph, cases, places, tapped, fresh_tapped)
    different = differing(operators, asked_db)
    if missed and not different:  # the conversion is at fault: its wrong values are found at a lower SQNR
        places = find_places(graph, cases[0].image, fresh_tapped[1][0], FALLBACK_DB, places)
        operators = _read(graph, cases, places, tapped, fresh_tapped)
    at_fault = different or (broken(operators, asked_db) if missed else [])
    weak = weakest(operators)
    if missed and not at_fault:
        at_fault = [weak]
    return Bisection(
        artifact=verdict.artifact,
        format=verdict.format,
        precision=verdict.precision,
        runtime=verdict.runtime,
        status="diverged" if missed else "differs" if different else "agrees",
        cause=("file" if different else "conversion") if missed else None,
        sqnr_db=verdict.agreement.sqnr_db.worst,
        threshold_db=asked_db,
        cases=tuple(case.name for case in cases),
        culprit=at_fault[0] if at_fault else None,
        others=max(0, len(at_fault) - 1),
        weakest=weak,
        blocks=blocks(operators, at_fault),
        operators=tuple(operators),
        output=verdict.worst_output or msgspec.UNSET,
    )


def _read(
    graph: TracedGraph, cases: Sequence[Case], places: Places, tapped: Tapped, fresh_tapped: Tapped
) -> list[Operator]:
    (taps, values), (fresh_taps, fresh_values) = tapped, fresh_tapped
    readings = compare_values(graph, cases, places, taps, values, fresh_values, align(fresh_taps, taps))
    if not readings:
        raise ToolchainError("the file has no operator in common with a fresh conversion of its checkpoint")
    return describe(graph, readings, places)


def places_of(graph: TracedGraph, case: Case, fresh_tapped: Tapped, precision: str) -> Places:
    """Which operators of the graph the values of a fresh conversion are the results of.

    Where a conversion is itself wrong, the lower SQNR of FALLBACK_DB suffices. Raises ToolchainError where that
    does not help either.
    """
    _, values = fresh_tapped
    places = find_places(graph, case.image, values[0], MIN_DB.get(precision, MIN_DB_QUANTIZED))
    if first_unplaced(graph, places) is not None:
        places = find_places(graph, case.image, values[0], FALLBACK_DB, places)
    lost = first_unplaced(graph, places)
    if lost is None:
        return places
    raise ToolchainError(
        f"a fresh conversion computes something else from {lost.operator} in {lost.place} on: the converter or the "
        f"runtime is at fault, not the file"
    )


def convert_afresh(
    checkpoint: Checkpoint, converter: Converter, precision: str, folder: Path, smoothing: Smoothing | None = None
) -> Path:
    """Convert a checkpoint in a child process, and return the file.

    For an integer precision, whose file was smoothed so, it computes in the format's own floating point: what integers
    lose shows against it.
    """
    weights = folder / "weights.safetensors"
    model, stored = checkpoint.own
    save_checkpoint(model, stored, weights)
    file = folder / f"{checkpoint.spec.model}{converter.suffix}"
    job = Job(
        checkpoint.spec,
        weights,
        converter.format,
        converter.backend,
        precision if smoothing is None else converter.precisions[0],
        file,
        smoothing=smoothing,
        stored=stored if checkpoint.spec.image_sizes else None,
    )
    run_in_child(run_job, job)
    return file
