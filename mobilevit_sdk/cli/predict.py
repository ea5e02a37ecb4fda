"""`mobilevit predict`: the best classes of images, by a checkpoint or by an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, out, print_json, print_line, print_notes, verb
from mobilevit_sdk.cli.preparation import preparation_options
from mobilevit_sdk.errors import RequestError

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.preparation import Preparation
    from mobilevit_sdk.evaluation.predict import Prediction

MIN_BAR = 10  # columns; a terminal with less room has none


@verb("predict", "The best classes of your images, or the objects on them.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--artifact", type=click.Path(path_type=Path), metavar="FILE", help="Ask this phone file, or its folder.")
@click.option("--checkpoint", help="Ask this one: a file, or hf-hub:org/name.  [default: the one that ships]")
@click.option("--runtime", metavar="NAME", help="Run the artifact with this one.  [default: the first that runs here]")
@click.option("--task", metavar="NAME", help="This task of a file with several.  [default: the network's own classes]")
@click.option("--top", type=click.IntRange(1), metavar="N", default=5, show_default=True, help="How many classes.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    default=0.7,
    show_default=True,
    help="Of a detector: the objects that are at least so likely.",
)
@click.option(
    "--picture", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the images with bars, or boxes."
)
@preparation_options(license=False)
def command(
    *,
    images: tuple[Path, ...],
    artifact: Path | None,
    checkpoint: str | None,
    runtime: str | None,
    task: str | None,
    top: int,
    threshold: float,
    picture: Path | None,
    preparation: Preparation,
    as_json: bool,
) -> int:
    """Show the best classes of images, with their probabilities, or the objects that a detector finds on them.

    IMAGE is a picture, or a folder, which stands for all pictures in it and below. With --artifact, a phone file
    answers, on a runtime of this machine; else a checkpoint answers, in PyTorch. Pictures stand upright, by their EXIF
    orientation, and are prepared as the model asks for. A box is x and y of its upper left corner, width and height, in
    pixels of such a picture.

    A picture that cannot be read stops no other. Exit 0: all were answered. 2: the request was wrong, or a picture that
    is named could not be read. 3: a runtime failed, or answered with NaN.
    """
    import msgspec

    from mobilevit_sdk.cli.display import Display
    from mobilevit_sdk.evaluation.measure import is_artifact
    from mobilevit_sdk.evaluation.predict import predict

    if artifact is not None and checkpoint is not None:
        raise RequestError("either `artifact` or `checkpoint` answers: give one of them")
    if artifact is not None and not is_artifact(artifact):
        raise RequestError(f"{artifact} is not a phone file, nor the folder of one; `checkpoint` takes a checkpoint")
    target = checkpoint if artifact is None else artifact
    with Display(log) as display:
        found = predict(
            images,
            target,
            runtime=runtime,
            top=top,
            threshold=threshold,
            task=task,
            preparation=preparation,
            progress=display,
        )
    notes = list(found.notes)
    if picture:
        from mobilevit_sdk.evaluation.predict_chart import write_predictions_chart

        notes += write_predictions_chart(found, picture)
    print_notes(notes)
    if as_json:
        made = {"target": found.target, "runtime": found.runtime, "notes": notes}
        print_json(made | {"predictions": msgspec.to_builtins(found.predictions)})
    else:
        out.print(f"{found.target} ({found.runtime})", markup=False, style="dim")
        _print_predictions(found.predictions)
    for each in found.predictions:
        if each.problem:
            print_line(log, "error", "bold red", f"{each.image}: {each.problem}")
    if any(each.is_unread for each in found.predictions):
        return 2
    return 3 if any(each.problem for each in found.predictions) else 0


def _print_predictions(predictions: Sequence[Prediction]) -> None:
    """Each image with a line for each class: share, bar on a terminal, label; or for each object, with its box."""
    from msgspec import UNSET
    from rich.text import Text

    from mobilevit_sdk.cli.tables import hung, terminal_width
    from mobilevit_sdk.text import printable

    width = terminal_width(out)
    for prediction in predictions:
        if prediction.objects is not UNSET:
            _print_objects(prediction, width)
        if not prediction.classes:
            continue
        out.print(Text(printable(prediction.image), "bold"))
        for each in prediction.classes:
            start = Text(f"{each.probability:7.1%}  ")
            if width is not None and (columns := width // 4) >= MIN_BAR:
                full, half = divmod(round(2 * columns * each.probability), 2)
                start.append(("━" * full + "╸" * half).ljust(columns), "cyan").append("  ")
            for line in hung(start, Text(printable(each.name)), width):
                out.print(line, soft_wrap=True)


def _print_objects(prediction: Prediction, width: int | None) -> None:
    """An image with a line for each object: how likely it is, its box, its label."""
    from rich.text import Text

    from mobilevit_sdk.cli.tables import hung
    from mobilevit_sdk.text import printable

    out.print(Text(printable(prediction.image), "bold"))
    for each in prediction.objects or ():
        x, y, across, down = (f"{value:.0f}" for value in each.box)
        start = Text(f"{each.probability:7.1%}  ").append(f"{x:>5} {y:>5}  {across + 'x' + down:<10}", "cyan")
        for line in hung(start, Text(printable(each.name)), width):
            out.print(line, soft_wrap=True)
    if not prediction.objects:
        out.print("  nothing found", style="dim")
