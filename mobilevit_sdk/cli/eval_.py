"""`mobilevit eval`: accuracy or average precision of a checkpoint or of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, print_json, print_notes, print_result, verb
from mobilevit_sdk.cli.data_options import DATA_HELP, DataSource, OpenImages, data_options
from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.cli.preparation import preparation_options

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.preparation import Preparation
    from mobilevit_sdk.files import Address


@verb("eval", "Accuracy, or average precision, on labeled images.")
@click.argument("target", required=False)
@click.option("--data", type=DataSource(), required=True, help=DATA_HELP)
@click.option("--runtime", metavar="NAME", help="Run the artifact with this one.  [default: the first that runs here]")
@click.option("--task", metavar="NAME", help="This task of a file with several.  [default: the network's own classes]")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only N images, spread evenly over the data.")
@click.option("--batch-size", type=click.IntRange(1), metavar="N", default=64, show_default=True)
@preparation_options(license=False)
@data_options()
def command(
    *,
    target: str | None,
    data: Path | Address,
    runtime: str | None,
    task: str | None,
    limit: int | None,
    batch_size: int,
    preparation: Preparation,
    open_images: OpenImages,
    as_json: bool,
) -> None:
    """Measure top-1 and top-5 accuracy, or the average precision of a detector, on labeled images.

    Average precision is COCO's, over IoU of 0.5 to 0.95, in the pixels of the pictures, and by class with --json.

    TARGET is a checkpoint (a file, or hf-hub:org/name; by default the one that ships with the package) or an artifact
    (a file, or the folder of one).
    """
    from mobilevit_sdk.cli.display import import_torch

    import_torch(log)

    from mobilevit_sdk.evaluation.measure import evaluate
    from mobilevit_sdk.tasks.detection.average_precision import AveragePrecision

    images = open_images(data, labeled=True, limit=limit)
    with Display(log) as display:
        result = evaluate(
            target,
            data=images,
            runtime=runtime,
            limit=limit,
            batch_size=batch_size,
            task=task,
            preparation=preparation,
            progress=display,
        )
    print_notes(result.notes)
    if as_json:
        print_json(
            {
                "target": result.target,
                "runtime": result.runtime,
                "images": result.accuracy.images,
                **result.accuracy.shares,
                **({"ap_by_class": result.accuracy.by_class} if isinstance(result.accuracy, AveragePrecision) else {}),
                "images_per_second": round(result.images_per_second, 1),
                "notes": list(result.notes),
            }
        )
    else:
        print_result(
            f"{result.target} ({result.runtime}): {result.accuracy.describe()} on {result.accuracy.images:,} images, "
            f"{result.images_per_second:,.0f} images/s"
        )
