"""A benchmark of artifacts from start to end: what `mobilevit bench` runs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mobilevit_sdk.arguments import several
from mobilevit_sdk.artifacts.artifact import ArtifactLike
from mobilevit_sdk.bench.plan import plan, thread_counts
from mobilevit_sdk.bench.rounds import BenchResult, bench
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.progress import Progress, silent


def benchmark(
    artifacts: ArtifactLike | Sequence[ArtifactLike],
    *,
    threads: int | Sequence[int] | None = None,
    against: ArtifactLike | None = None,
    checkpoint: Checkpoint | Path | str | None = None,
    rounds: int = 20,
    progress: Progress = silent,
) -> BenchResult:
    """The latency of artifacts on this machine's CPU, in milliseconds for one image, and their ratios.

    `artifacts` is one or several files, their folders, or folders of artifacts. All of them and the reference of the
    ratios are alive at once, each in a process of its own, and take turns over `rounds` rounds, once for each count of
    `threads`, by default 1 and all cores: what slows the machine down slows them all. `against` is another artifact
    or one of `bench.BASELINES`, made of the artifact's own checkpoint, or of `checkpoint`; by default it is the first
    artifact. Decoding and preprocessing are not timed. An answer that differs from PyTorch's gives a row with the
    status "error".

    Raises ArtifactError for a path without an artifact, RequestError for an unknown reference or more threads than
    cores, CheckpointError when the checkpoint is not found, and ToolchainError when the baseline cannot be made here.
    """
    counts = thread_counts(several(threads))
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as scratch:
        planned = plan(several(artifacts), against, checkpoint, Path(scratch), progress=progress)
        reference_of = planned.against.__getitem__
        return bench(planned.candidates, threads=counts, against=reference_of, rounds=rounds, progress=progress)
