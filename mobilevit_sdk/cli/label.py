"""`mobilevit label`: store a teacher's answers, for students to learn from without it."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from mobilevit_sdk.cli.common import log, print_json, print_notes, print_result, verb
from mobilevit_sdk.cli.data_options import DATA_HELP, DataSource, OpenImages, data_options
from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.cli.preparation import ImageSize
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Step, silent
from mobilevit_sdk.text import count

PATH = click.Path(path_type=Path)


@verb("label", "Store a teacher's answers, to train on without it.", processes=True)
@click.option("--data", type=DataSource(), metavar="PATH", help=DATA_HELP)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="TEACHER",
    help="A checkpoint, hf-hub:org/name, timm:NAME[=FILE] or python:FILE.py:FUNCTION. May be given again: the mean of "
    "all.",
)
@click.option("--out", type=PATH, metavar="DIR", help="Folder of the labels.")
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Views of each image: as many as a training has.")
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="Classes that are stored.  [default: 10, or all]")
@click.option("--recipe", "recipe_file", type=PATH, metavar="FILE", help="JSON file, whose augmentation is used.")
@click.option("--image-size", type=ImageSize(), help="Of the views, in pixels.  [default: the teacher's]")
@click.option("--seed", type=int, metavar="N", help="Random seed.  [default: 0]")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, metavar="N")
@click.option("--check", type=PATH, metavar="DIR", help="Instead: compute some labels of this folder anew.")
@click.option("--samples", type=click.IntRange(1), metavar="N", help="With --check: how many.  [default: 256]")
@click.option("--show", type=PATH, metavar="DIR", help="Instead: say what this folder holds, whoever wrote it.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all cores]")
@data_options()
def command(
    *,
    data: Path | None,
    teachers: tuple[str, ...],
    out: Path | None,
    epochs: int | None,
    top_k: int | None,
    recipe_file: Path | None,
    image_size: tuple[int, int] | None,
    seed: int | None,
    batch_size: int,
    check: Path | None,
    samples: int | None,
    show: Path | None,
    device: str,
    threads: int | None,
    open_images: OpenImages,
    as_json: bool,
) -> int | None:
    """Store what a teacher answers to augmented images, so that any student learns from it without the teacher.

    For every image and epoch, the folder --out receives the seed of its augmented view and the K most likely classes
    with their probabilities, 4 + 4 K bytes (TinyViT, arXiv 2207.10666): `mobilevit train --labels DIR` makes the same
    views again. After an interruption or a kill, the same command goes on; several processes share the work with
    `torchrun --nproc-per-node N -m mobilevit_sdk label ...`. Images are not mixed.

    --check exits with 1 where labels differ beyond rounding from what the teacher answers now.
    """
    if show:
        _show(show, as_json)
        return None
    if not data or not teachers or (not check and (not out or not epochs)):
        raise RequestError("labels take --data, --teacher, --epochs and --out, or --check with --data and --teacher")
    if check and (given := _given(out=out, epochs=epochs, top_k=top_k, recipe=recipe_file, image_size=image_size)):
        raise RequestError(f"--check takes labels as they are: leave out {' and '.join(given)}")
    if samples and not check:
        raise RequestError("--samples is how many labels --check computes: give both")
    from mobilevit_sdk.cli.display import import_torch

    import_torch(log)

    import torch

    from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
    from mobilevit_sdk.recipe import Recipe, make_recipe
    from mobilevit_sdk.training.labeling import store_labels
    from mobilevit_sdk.training.teachers import open_teachers

    if threads:
        torch.set_num_threads(threads)
    recipe = make_recipe(recipe_file, {"seed": seed}, Recipe())
    opened = open_teachers(teachers)
    print_notes(note for each in opened if isinstance(each, Checkpoint) for note in each.notes)
    images = open_images(data, labeled=True)
    if check:
        return _check(check, opened, images, samples or 256, device, as_json)
    assert out is not None
    assert epochs is not None
    number, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # of torchrun
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    with Display(log) if number == 0 else nullcontext(silent) as progress:
        done = store_labels(
            images,
            opened,
            out,
            epochs=epochs,
            top_k=top_k,
            recipe=recipe,
            image_size=image_size,
            batch_size=batch_size,
            device=device,
            process=(number, processes),
            progress=progress,
        )
        if number:
            return None
        while missing := done.labels.missing(range(done.labels.manifest.epochs)):  # the others are at work
            progress(Step("waiting for the other processes", detail=f"{count(missing, 'part')} left"))
            time.sleep(1)
    known = done.labels.manifest
    if as_json:
        print_json(
            {
                "path": str(out),
                "teacher": done.labels.name,
                "images": known.data.images,
                "epochs": known.epochs,
                "top_k": known.top_k,
                "classes": known.classes,
                "bytes": done.bytes,
                "written": done.written,
                "images_per_second": round(done.images_per_second, 1),
                "sha256": done.labels.sha256,
            }
        )
    else:
        rate = f"{done.written:,} written{' by this process' if processes > 1 else ''} at {done.images_per_second:,.0f}"
        wrote = f"{rate} images/s" if done.written else "all there"
        print_result(
            f"{out}: {known.data.images:,} images x {count(known.epochs, 'epoch')}, top {known.top_k} of "
            f"{known.classes} by {done.labels.name}, {_size(done.bytes)}; {wrote}"
        )
    return None


def _check(path: Path, teachers: Any, images: Any, samples: int, device: str, as_json: bool) -> int:
    from mobilevit_sdk.training.labeling import check_labels

    with Display(log) as display:
        found = check_labels(path, teachers, images, samples=samples, device=device, progress=display)
    if as_json:
        print_json(
            {
                "path": str(path),
                "passed": found.passed,
                "records": found.records,
                "same_teacher": found.same_teacher,
                "mean_difference": found.mean_difference,
                "largest_difference": found.largest_difference,
                "differing_indices": found.differing_indices,
                "beyond_rounding": found.beyond_rounding,
            }
        )
    else:
        teacher = "the same weights" if found.same_teacher else "a teacher with other weights"
        print_result(
            f"{path}: {'as stored' if found.passed else 'DIFFERENT'}; {found.records:,} labels by {teacher}: mean "
            f"|difference| {found.mean_difference:.1e}, largest {found.largest_difference:.1e}, "
            f"{found.differing_indices:.2%} of the indices differ, {found.beyond_rounding:.1%} of the labels beyond "
            f"rounding"
        )
    return 0 if found.passed else 1


def _show(folder: Path, as_json: bool) -> None:
    from mobilevit_sdk.training.label_store import MANIFEST, read_epoch, read_manifest, stored_epochs

    if not (there := stored_epochs(folder)):
        raise RequestError(f"{folder} holds no stored labels: no folder logits_top10_epoch0 or the like")
    known = read_manifest(folder) if (folder / MANIFEST).exists() else None
    rows = [
        {"top_k": top_k, "epoch": epoch, "records": len(read_epoch(folder, top_k, epoch))}
        for top_k, epochs in there.items()
        for epoch in epochs
    ]
    total = sum(row["records"] * (4 + 4 * row["top_k"]) for row in rows)
    writer = f"by {known.teacher.get('model', 'several')}" if known else "by TinyViT's own code: not to train on here"
    if as_json:
        print_json({"path": str(folder), "bytes": total, "trainable": known is not None, "epochs": rows})
        return
    for top_k, epochs in there.items():
        of_k = [row["records"] for row in rows if row["top_k"] == top_k]
        each = f"{min(of_k):,}" if min(of_k) == max(of_k) else f"{min(of_k):,} to {max(of_k):,}"
        print_result(f"{folder}: top {top_k}, {count(epochs, 'epoch')} of {each} labels, {writer}")
    print_result(f"{_size(total)} in all")


def _given(**options: object) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name, value in options.items() if value]


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
