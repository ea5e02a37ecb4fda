"""`mobilevit prune`: a physically smaller network from a checkpoint, and its fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, out, print_json, print_line, print_notes, verb
from mobilevit_sdk.cli.data_options import DATA_HELP, DataSource, OpenImages, data_options
from mobilevit_sdk.cli.preparation import preparation_options
from mobilevit_sdk.cli.wording import in_options
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Step
from mobilevit_sdk.text import count

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.preparation import Preparation
    from mobilevit_sdk.files import Address
    from mobilevit_sdk.pruning.folder import Report

PATH = click.Path(path_type=Path)


@verb("prune", "Make a smaller network of a checkpoint.")
@click.argument("checkpoint", required=False)
@click.option("--macs", type=float, metavar="SHARE", help="Keep this share of the multiply-accumulates, such as 0.7.")
@click.option("--params", type=float, metavar="SHARE", help="Keep this share of the parameters.")
@click.option(
    "--latency", type=float, metavar="SHARE", help="Keep this share of the latency of the layers, timed here."
)
@click.option("--data", type=DataSource(), metavar="PATH", help=f"Training images. {DATA_HELP}")
@click.option("--test-data", type=DataSource(), metavar="PATH", help="Images to measure top-1 or AP on.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only N test images, spread evenly over the data.")
@click.option(
    "--importance",
    type=click.Choice(["taylor", "magnitude", "bn-scale", "random"]),
    help="How channels are judged.  [default: taylor]",
)
@click.option("--steps", type=int, metavar="N", help="Judge and prune in N steps.  [default: 5]")
@click.option("--samples", type=int, metavar="N", help="Images to judge by.  [default: 1024]")
@click.option("--multiple", type=int, metavar="N", help="Channels stay multiples of this.  [default: 8]")
@click.option(
    "--finetune",
    type=click.IntRange(1),
    metavar="EPOCHS",
    help="Then train the pruned network; a classifier has the unpruned one as its teacher.",
)
@click.option(
    "--distill",
    type=click.Choice(["soft", "hard"]),
    help="From all scores of the teacher, or its class.  [default: soft]",
)
@click.option("--temperature", type=float, metavar="T", help="Softmax temperature of soft labels.  [default: 2]")
@click.option(
    "--recipe",
    "recipe_file",
    type=PATH,
    metavar="FILE",
    help="JSON training recipe to fine-tune by; --finetune sets its epochs.",
)
@click.option("--sweep", is_flag=True, help="Also measure top-1 or AP at 0.9, 0.8, ... 0.3, before fine-tuning.")
@click.option(
    "--bench/--no-bench",
    default=True,
    show_default=True,
    help="Convert both networks and compare their latencies, which takes a minute or two.",
)
@click.option("--out", "folder", type=PATH, metavar="DIR", help="Folder of this pruning.  [default: NAME-pruned]")
@click.option("--seed", type=int, metavar="N", help="Random seed.  [default: 0]")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all cores]")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="Device to fine-tune on."
)
@preparation_options()
@data_options()
def command(
    *,
    checkpoint: str | None,
    macs: float | None,
    params: float | None,
    latency: float | None,
    data: Path | Address | None,
    test_data: Path | Address | None,
    limit: int | None,
    finetune: int | None,
    distill: str | None,
    temperature: float | None,
    recipe_file: Path | None,
    sweep: bool,
    bench: bool,
    folder: Path | None,
    threads: int | None,
    device: str,
    preparation: Preparation,
    open_images: OpenImages,
    as_json: bool,
    **options: int | str | None,
) -> None:
    """Make a physically smaller network of a checkpoint: fewer channels, heads and blocks, no masks.

    CHECKPOINT is a file, or hf-hub:org/name; by default the one that ships with the package. It is not changed. The
    folder --out receives pruned.safetensors, an ordinary checkpoint whose config holds its own widths, report.json and
    kept.png; in files, the phone files of both networks, whose latencies are compared; with --sweep, frontier.png; with
    --finetune, finetuned/model.safetensors. After an interruption, the same command resumes.

    Channels are judged by the first-order change of the loss without them. Those that matter least for each
    multiply-accumulate, or parameter, that they cost are removed first. Without --data, this happens on images that are
    synthesized from the network, which costs accuracy; a detector's channels are then judged by their magnitude.
    """
    from mobilevit_sdk.cli.display import import_torch

    import_torch(log)

    import msgspec
    import torch

    from mobilevit_sdk.checkpoints.source import open_source
    from mobilevit_sdk.cli.training import TrainingDisplay
    from mobilevit_sdk.pruning.finetune import finetune_recipe
    from mobilevit_sdk.pruning.request import make_request
    from mobilevit_sdk.pruning.run import prune_into
    from mobilevit_sdk.pruning.sweep import SweepStep
    from mobilevit_sdk.tasks import task_of

    if threads:
        torch.set_num_threads(threads)
    shares = {"macs": macs, "params": params, "latency": latency}
    given = [(measure, share) for measure, share in shares.items() if share is not None]
    if len(given) != 1:
        raise RequestError("give one share to keep, such as --macs 0.7 or --params 0.6")
    request = make_request(*given[0], {name: value for name, value in options.items() if value is not None})
    original = open_source(checkpoint, preparation=preparation)
    recipe = None
    if finetune:
        recipe = finetune_recipe(
            original.spec, finetune, kind=distill, temperature=temperature, file=recipe_file, seed=request.seed
        )
    print_notes(original.notes)
    train = open_images(data, labeled=True, limit=None if finetune else request.samples)
    test = open_images(test_data, labeled=True, limit=limit)
    print_notes(note for images in (train, test) if images for note in task_of(original.spec).notes(images))
    folder = folder or Path(f"{Path(original.source).stem.replace(':', '-')}-pruned")
    with TrainingDisplay(log) as display:

        def show(step: Step) -> None:
            if isinstance(step, SweepStep):
                display.line(f"{step.stage}: {step.detail}")
            else:
                display(step)

        report = prune_into(
            folder,
            original,
            request,
            train=train,
            test=test,
            bench=bench,
            with_sweep=sweep,
            recipe=recipe,
            device=device,
            progress=show,
        )
    if bench and report.latency is None:
        log.print("no phone format can be made and timed here, so no latency is measured (see mobilevit doctor)")
    if as_json:
        warnings = [in_options(text) for text in report.warnings]
        print_json(msgspec.to_builtins(msgspec.structs.replace(report, warnings=warnings)))
    else:
        _print(report, folder)
    for text in report.warnings:
        print_line(log, "warning", "bold yellow", in_options(text))


def _print(report: Report, folder: Path) -> None:
    from mobilevit_sdk.cli.tables import Table

    before, after = report.before, report.after
    table = Table("", "before", "after", "left", name="")
    for name, label in (("parameters", "parameters"), ("macs", "multiply-accumulates")):
        one, other = getattr(before, name), getattr(after, name)
        table.add_row(label, f"{one:,}", f"{other:,}", f"{other / one:.1%}")
    reasons: dict[str, str] = {}  # why a latency is missing
    measured = report.latency.rows if report.latency else []
    sizes = {f"size for {row.format}": row.bytes for row in measured}
    for label, (one, other) in (sizes or {"size in float32": (before.bytes, after.bytes)}).items():
        table.add_row(label, f"{one:,} B", f"{other:,} B", f"{other / one:.1%}")
    for row in measured:
        label = f"{row.runtime}, {count(row.threads, 'thread')}"
        if row.median_ms:
            table.add_row(label, *(f"{median:.2f} ms" for median in row.median_ms), f"{row.ratio:.1%}")
        else:
            reasons[label] = row.reason or ""
    finetuned = report.finetuned
    for name, quality in (("top1", "top-1"), ("ap", "AP")):
        one = getattr(before, name)
        for label, result in ((quality, after), (f"{quality}, fine-tuned", finetuned)):
            if one is not None and (other := getattr(result, name, None)) is not None:
                table.add_row(label, f"{one:.2%}", f"{other:.2%}", f"{100 * (other - one):+.2f} points")
    table.print(out)
    for label, reason in reasons.items():
        print_line(out, "not timed", "yellow", f"{label}: {reason}")
    out.print(f"\n{finetuned.checkpoint if finetuned else folder / 'pruned.safetensors'}", markup=False)
