"""`mobilevit synthesize`: images to calibrate with, made from a checkpoint alone."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import click

from mobilevit_sdk.cli.common import log, print_json, print_notes, verb
from mobilevit_sdk.cli.display import Display


@verb("synthesize")
@click.argument("checkpoint", required=False)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Ends in .parquet; a .png beside it."
)
@click.option("--images", type=click.IntRange(2, 100_000), default=128, show_default=True, metavar="N")
@click.option("--steps", type=click.IntRange(2, 100_000), default=150, show_default=True, help="Of gradient descent.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, metavar="N")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all cores]")
def command(
    *, checkpoint: str | None, out: Path, images: int, steps: int, seed: int, threads: int | None, as_json: bool
) -> None:
    """Make images to calibrate with where there are no others, by DeepInversion.

    CHECKPOINT is a file or hf-hub:org/name; by default the one that ships with the package. The images are such that
    its BatchNorms see the means and variances that they know from the training. FILE is taken by every option that
    takes images; the .png beside it shows them. Interrupted, the same command goes on after the last whole batch.
    """
    import torch

    from mobilevit_sdk.checkpoints.source import open_source
    from mobilevit_sdk.quantization.synthesis import SynthesisOptions
    from mobilevit_sdk.quantization.synthetic_file import SynthesisProgress, recognized, synthesize

    if threads:
        torch.set_num_threads(threads)
    source = open_source(checkpoint)
    print_notes(source.notes)
    started = time.monotonic()
    with Display(log) as display:

        def show(progress: SynthesisProgress) -> None:
            left = timedelta(seconds=round(progress.seconds_left))
            detail = f"{progress.images_done} of {progress.images} images · {left} left · loss {progress.loss:.2f}"
            display.update("synthesizing", progress.steps_done, progress.steps, detail)

        synthesize(source, out, SynthesisOptions(images=images, steps=steps, seed=seed), show)
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
        click.echo(f"{out}: {images} images in {seconds:.0f} s, {share:.0%} taken for what they were made for; {sheet}")
