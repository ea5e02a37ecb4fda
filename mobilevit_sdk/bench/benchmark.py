"""A benchmark of artifacts from start to end: what `mobilevit bench` runs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mobilevit_sdk.bench.plan import plan, thread_counts
from mobilevit_sdk.bench.rounds import BenchResult, bench
from mobilevit_sdk.progress import Progress, silent


def benchmark(
    artifacts: Sequence[Path | str],
    *,
    threads: Sequence[int] = (),
    against: str | None = None,
    checkpoint: str | None = None,
    rounds: int = 20,
    progress: Progress = silent,
) -> BenchResult:
    """The latency of artifacts on this machine's CPU, in milliseconds for one image, and their ratios.

    Each of `artifacts` is a file, its folder, or a folder of artifacts. All of them and the reference of the ratios are
    alive at once, each in a process of its own, and take turns over `rounds` rounds, once for each count of `threads`,
    by default 1 and all cores: what slows the machine down slows them all. `against` is another artifact or one of
    `bench.BASELINES`, made of the artifact's own checkpoint, or of `checkpoint`; by default it is the first artifact.
    Decoding and preprocessing are not timed. An answer that differs from PyTorch's gives a row with the status "error".

    Raises ArtifactError for a path without an artifact, RequestError for an unknown reference or more threads than
    cores, CheckpointError when the checkpoint is not found, and ToolchainError when the baseline cannot be made here.
    """
    counts = thread_counts([str(count) for count in threads])
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as scratch:
        planned = plan([Path(each) for each in artifacts], against, checkpoint, Path(scratch), progress=progress)
        reference_of = planned.against.__getitem__
        return bench(planned.candidates, threads=counts, against=reference_of, rounds=rounds, progress=progress)
