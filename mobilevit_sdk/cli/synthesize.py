"""`mobilevit synthesize`: images to calibrate with, made from a checkpoint alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, print_json, print_notes, print_result, verb
from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.cli.preparation import preparation_options

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.preparation import Preparation


@verb("synthesize", "Make images to calibrate with where there are none.")
@click.argument("checkpoint", required=False)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Ends in .parquet; a .png beside it."
)
@click.option("--images", type=click.IntRange(2, 100_000), default=128, show_default=True, metavar="N")
@click.option("--steps", type=click.IntRange(2, 100_000), default=150, show_default=True, help="Of gradient descent.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, metavar="N")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all cores]")
@preparation_options()
def command(
    *,
    checkpoint: str | None,
    out: Path,
    images: int,
    steps: int,
    seed: int,
    threads: int | None,
    preparation: Preparation,
    as_json: bool,
) -> None:
    """Synthesize images to calibrate with where there are no real ones, by DeepInversion.

    CHECKPOINT is a file or hf-hub:org/name; by default the one that ships with the package. The images give its
    BatchNorms the means and variances that they saw in training. Every option that takes images takes FILE; the .png
    beside it shows them. After an interruption, the same command resumes after the last complete batch.
    """
    from mobilevit_sdk.cli.display import import_torch

    import_torch(log)

    import torch

    from mobilevit_sdk.checkpoints.source import open_source
    from mobilevit_sdk.quantization.synthesis import SynthesisOptions
    from mobilevit_sdk.quantization.synthetic_file import recognized, synthesize

    if threads:
        torch.set_num_threads(threads)
    source = open_source(checkpoint, preparation=preparation)
    print_notes(source.notes)
    started = time.monotonic()
    with Display(log) as display:
        synthesize(source, out, SynthesisOptions(images=images, steps=steps, seed=seed), progress=display)
    share, seconds = recognized(source, out), time.monotonic() - started
    sheet = out.with_suffix(".png")
    if as_json:
        print_json(
            {
                "model": source.spec.model,
                "path": str(out),
                "sheet": str(sheet),
                "images": images,
                "steps": steps,
                "seed": seed,
                "recognized": share,
                "seconds": round(seconds, 1),
            }
        )
    else:
        print_result(f"{out}: {images} images in {seconds:.0f} s, {share:.0%} recognized as their class; {sheet}")
