"""The search: tap the artifact, convert its checkpoint afresh, tap that too, and hold both to the reference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mobilevit_sdk.artifacts.artifact import Artifact, find_artifacts
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.bisection.axis_permutation import sqnr_db
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
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError, suggest
from mobilevit_sdk.formats.converter import Converter, find_converter
from mobilevit_sdk.formats.quantization import QUANTIZED
from mobilevit_sdk.formats.runtime import Runtime
from mobilevit_sdk.formats.taps import Tap, TappedRuntime
from mobilevit_sdk.parity import THRESHOLDS, Threshold, Verdict, compare
from mobilevit_sdk.parity.gate import judge
from mobilevit_sdk.parity.images import checkpoint_of
from mobilevit_sdk.parity.runs import Run, run_cases
from mobilevit_sdk.processes.child import run_in_child

SAME_DB = 80.0  # of scores in float32 against those in float64; they reach more than 100
WORST_CASES = 2  # that are looked into, beside the first

# How near a value of a fresh conversion must be to the result of an operator, in dB, to be taken for it.
MIN_DB = {"fp32": 60.0, "fp16": 30.0}
MIN_DB_QUANTIZED = 15.0
FALLBACK_DB = 6.0  # where it is itself wrong


def bisect(
    artifact: Path | str | Artifact,
    *,
    checkpoint: str | None = None,
    runtime: str | None = None,
    thresholds: Mapping[str, Threshold] = THRESHOLDS,
    on_progress: Callable[[str], None] = lambda doing: None,
) -> Bisection:
    """Find the first place where an artifact and PyTorch part, on the cases stored beside it.

    `artifact` is opened, or its file or folder. The reference is the checkpoint that it was made of: the one that its
    manifest names, or `checkpoint`. That is converted again, and both files are compared with it operator by operator.
    `runtime` is by default the first of the format's that runs here and shows what it computes; `thresholds` holds what
    the scores of each precision must reach. Raises CheckpointError when the checkpoint is gone or another one,
    ArtifactError for a file that does not load, RequestError for an unknown runtime or precision, and ToolchainError
    for a toolchain or runtime that is missing or fails.
    """
    artifact = artifact if isinstance(artifact, Artifact) else _the_only_artifact(Path(artifact))
    manifest = artifact.manifest
    converter = find_converter(manifest.format, manifest.backend)
    chosen = _choose_runtime(converter, runtime)
    source = checkpoint_of(artifact, checkpoint)
    reference = artifact.reference()
    where = (manifest.format, manifest.backend, chosen.name)
    on_progress(f"running {artifact.path.name} on {chosen.name}")
    scores = run_in_child(run_cases, *where, artifact.path, reference.cases, threads=1)
    if scores.shape != reference.logits.shape:
        raise ArtifactError(
            f"{artifact.path} answers {scores.shape[1:]} scores, the reference {reference.logits.shape[1:]}"
        )
    verdict = judge(Run(artifact, chosen.name, chosen.availability().version, scores, reference), thresholds)
    cases = worst_cases(reference.cases, reference.logits, scores)
    on_progress(f"reading every value of {artifact.path.name}")
    tapped = read_taps(*where, artifact.path, cases)
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as folder:
        on_progress(f"converting {source.source} afresh")
        fresh = convert_afresh(source, converter, manifest.precision, Path(folder))
        on_progress("reading every value of the fresh conversion")
        fresh_tapped = read_taps(*where, fresh, cases)
    on_progress("comparing operator by operator")
    graph = TracedGraph(source.model, manifest.target, manifest.spec, quantized=manifest.precision in QUANTIZED)
    check_reference(artifact, graph, reference)
    return diagnose(verdict, graph, cases, tapped, fresh_tapped)


def _the_only_artifact(path: Path) -> Artifact:
    found = find_artifacts([path])
    if len(found) != 1:
        raise ArtifactError(f"{path} holds {len(found)} artifacts; give one of their folders")
    return found[0]


def worst_cases(cases: Sequence[Case], expected: np.ndarray, scores: np.ndarray) -> tuple[Case, ...]:
    """The cases to look into: the first, which is a photograph, and those that the scores are worst in."""
    order = np.argsort(compare(expected, scores).case_sqnr_db, kind="stable")
    return tuple(cases[i] for i in dict.fromkeys([0, *order[:WORST_CASES].tolist()]))


def check_reference(artifact: Artifact, graph: TracedGraph, reference: Reference) -> None:
    """Raise ArtifactError where the answers beside an artifact are not those of the graph."""
    follower = Follower(graph, reference.cases[0].image)
    for step in graph.steps:
        follower.keep(step, follower.expected(step))
    found = sqnr_db(reference.logits[0], follower.value(graph.scores).numpy().reshape(-1))
    if found < SAME_DB:
        raise ArtifactError(
            f"the answers beside {artifact.path} are not those of its checkpoint ({found:.1f} dB): they are another "
            f"network's, or the phone graph is wrong; convert again"
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
    """Why an artifact has the `verdict` that it has, with an agreement.

    `places` are those of the fresh conversion, where they are known already. Raises ToolchainError where that is so
    wrong that its values are not found in the reference.
    """
    assert verdict.agreement is not None
    missed, asked_db = verdict.status == "failed", verdict.thresholds.sqnr_db
    if places is None:
        places = places_of(graph, cases[0], fresh_tapped, verdict.precision)
    operators = _read(graph, cases, places, tapped, fresh_tapped)
    different = differing(operators, asked_db)
    if missed and not different:  # the conversion is at fault: its wrong values are found with less demanded of them
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
        status="parted" if missed else "differs" if different else "agrees",
        cause=("file" if different else "conversion") if missed else None,
        sqnr_db=verdict.agreement.sqnr_db.worst,
        threshold_db=asked_db,
        cases=tuple(case.name for case in cases),
        culprit=at_fault[0] if at_fault else None,
        others=max(0, len(at_fault) - 1),
        weakest=weak,
        blocks=blocks(operators, at_fault),
        operators=tuple(operators),
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
    """Where the values of a fresh conversion stand in the graph.

    A conversion that is itself wrong somewhere is found again with less demanded of it. Raises ToolchainError where
    that does not help.
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


def convert_afresh(checkpoint: Checkpoint, converter: Converter, precision: str, folder: Path) -> Path:
    """Convert a checkpoint in a child process; the file. What integers lose shows against the format's floats."""
    weights = folder / "weights.safetensors"
    save_checkpoint(checkpoint.model, checkpoint.spec, weights)
    file = folder / f"{checkpoint.spec.model}{converter.suffix}"
    run_in_child(convert_weights, weights, converter.format, converter.backend, precision, file)
    return file


def convert_weights(weights: Path, format_name: str, backend: str | None, precision: str, file: Path) -> None:
    converter = find_converter(format_name, backend)
    checkpoint = load_checkpoint(weights)
    quantized = precision in QUANTIZED
    graph = deploy(checkpoint.model, converter.target, checkpoint.spec, quantized=quantized)
    converter.convert(graph, checkpoint.spec, converter.precisions[0] if quantized else precision, file)


def _choose_runtime(converter: Converter, name: str | None) -> Runtime:
    tappable = {runtime.name: runtime for runtime in converter.runtimes if isinstance(runtime, TappedRuntime)}
    if name is not None and name not in tappable:
        if any(runtime.name == name for runtime in converter.runtimes):
            raise RequestError(f"{name} does not show what it computes on the way; use {' or '.join(tappable)}")
        raise RequestError(f"{converter.format} has no runtime {name!r}; {suggest(name, tappable)}")
    candidates = [tappable[name]] if name else list(tappable.values())
    for runtime in candidates:
        if runtime.availability():
            return runtime
    reasons = "; ".join(f"{runtime.name}: {runtime.availability().reason}" for runtime in candidates)
    raise ToolchainError(f"nothing here shows what the file computes ({reasons})")
