"""`mobilevit prune`: a physically smaller network from a checkpoint, and its fine-tuning."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilevit_sdk.cli.common import log, out, print_json, print_notes, verb
from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.errors import RequestError

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
    from mobilevit_sdk.data import ImageDataset
    from mobilevit_sdk.pruning import Pruned, PruningImages, Request
    from mobilevit_sdk.training import Recipe

PATH = click.Path(path_type=Path)
SWEEP = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


@verb("prune")
@click.argument("checkpoint", required=False)
@click.option("--macs", type=float, metavar="SHARE", help="Keep so much of the multiply-accumulates, such as 0.7.")
@click.option("--params", type=float, metavar="SHARE", help="Keep so much of the parameters.")
@click.option("--latency", type=float, metavar="SHARE", help="Keep so much of the latency of its layers, timed here.")
@click.option("--data", type=PATH, metavar="PATH", help="Training images: folder of class folders, or Parquet file.")
@click.option("--test-data", type=PATH, metavar="PATH", help="PruningImages to measure top-1 on, before and after.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only N test images, spread evenly over the data.")
@click.option(
    "--importance",
    type=click.Choice(["taylor", "magnitude", "bn-scale", "random"]),
    help="What a channel is judged by.  [default: taylor with --data, magnitude without]",
)
@click.option("--steps", type=int, metavar="N", help="Judge and prune so often.  [default: 5]")
@click.option("--samples", type=int, metavar="N", help="PruningImages to judge by.  [default: 1024]")
@click.option("--multiple", type=int, metavar="N", help="Channels stay multiples of this.  [default: 8]")
@click.option("--finetune", type=click.IntRange(1), metavar="EPOCHS", help="Then learn from the unpruned network.")
@click.option(
    "--distil", type=click.Choice(["soft", "hard"]), help="All scores of the teacher, or its class.  [default: soft]"
)
@click.option("--temperature", type=float, metavar="T", help="Of soft labels.  [default: 2]")
@click.option("--recipe", "recipe_file", type=PATH, metavar="FILE", help="Fine-tune by this JSON, but for the epochs.")
@click.option("--sweep", is_flag=True, help="Also measure top-1 at 0.9, 0.8, ... 0.3, before fine-tuning.")
@click.option(
    "--bench/--no-bench",
    default=True,
    show_default=True,
    help="Convert both networks and compare their latencies, which takes a minute or two.",
)
@click.option("--out", "folder", type=PATH, metavar="DIR", help="Folder of this pruning.  [default: NAME-pruned]")
@click.option("--seed", type=int, metavar="N", help="Of all that is random.  [default: 0]")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all cores]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="To fine-tune on.")
def command(
    *,
    checkpoint: str | None,
    macs: float | None,
    params: float | None,
    latency: float | None,
    data: Path | None,
    test_data: Path | None,
    limit: int | None,
    importance: str | None,
    finetune: int | None,
    distil: str | None,
    temperature: float | None,
    recipe_file: Path | None,
    sweep: bool,
    bench: bool,
    folder: Path | None,
    threads: int | None,
    device: str,
    as_json: bool,
    **options: int | None,
) -> None:
    """Make a physically smaller network of a checkpoint: fewer channels, heads and blocks, no masks.

    CHECKPOINT is a file, or hf-hub:org/name; by default the one that ships with the package. It stays as it is. The
    folder --out receives pruned.safetensors, an ordinary checkpoint whose config holds its own widths, report.json and
    kept.png; the folder files with the phone files of both networks, whose latencies are compared; with --sweep
    frontier.png; with --finetune the folder finetuned with model.safetensors. The same command goes on where it was
    interrupted.

    Channels are judged by the first-order change of the loss without them, and go in the order of what they matter for
    each multiply-accumulate, or parameter, that they cost.
    """
    import torch

    from mobilevit_sdk.checkpoints.source import open_source
    from mobilevit_sdk.data import open_dataset
    from mobilevit_sdk.pruning import PruningImages, prune_network
    from mobilevit_sdk.pruning.folder import CHECKPOINT, FRONTIER, KEPT, load_pruned, save_pruned, write_report
    from mobilevit_sdk.pruning.plots import plot_frontier, plot_kept

    if threads:
        torch.set_num_threads(threads)
    request = _request({"macs": macs, "params": params, "latency": latency}, importance, data, options)
    if sweep and test_data is None:
        raise RequestError("--sweep measures top-1: give --test-data")
    if finetune and (data is None or test_data is None):
        raise RequestError("--finetune needs --data to train on and --test-data to measure on")
    original = open_source(checkpoint)
    print_notes(original.notes)
    train = open_dataset(data, labeled=True) if data else None
    test = open_dataset(test_data, labeled=True) if test_data else None
    test = test.sample(limit) if test and limit else test
    folder = folder or Path(f"{Path(original.source).stem.replace(':', '-')}-pruned")
    with Display(log) as display:
        pruned = load_pruned(original, request, folder)
        images, latencies = None, None
        if train and (pruned is None or sweep):
            display.update("reading images", 0, 1)
            images = PruningImages(train, original.spec, request.samples, request.seed)
        if request.measure == "latency" and (pruned is None or sweep):
            latencies = _table(original, display)
        if pruned is not None:
            display.line(f"{folder / CHECKPOINT} is this pruning already")
        else:
            found = prune_network(
                original.model, original.spec, request, images, latency_table=latencies, report=display.update
            )
            pruned = save_pruned(found, original, request, folder)
        spec = pruned.spec
        document = _document(original, pruned, request, test, display)
        plot_kept(pruned.kept, folder / KEPT, f"{spec.model}: what is left of {_target(document)}")
        if bench:
            document["latency"] = _latency(original, folder, display)
        if sweep and test:
            document["frontier"] = _sweep(original, request, images, test, latencies, display)
            points = [(row["macs"], row["top1"]) for row in document["frontier"]]
            before = (1.0, document["before"]["top1"])
            plot_frontier(
                {request.importance: [before, *points]}, folder / FRONTIER, f"{spec.model}, before fine-tuning"
            )
        write_report(document, folder)
        if finetune and train and test:
            recipe = _recipe(finetune, distil, temperature, recipe_file, request.seed)
            start = dataclasses.replace(original, model=pruned.model, spec=spec)
            document["finetuned"] = _finetune(start, original, recipe, train, test, folder, device, display)
            write_report(document, folder)
    if as_json:
        print_json(document)
    else:
        _print(document, folder)


def _document(
    original: Checkpoint, pruned: Pruned, request: Request, test: ImageDataset | None, display: Display
) -> dict[str, Any]:
    """What `--json` prints."""
    import msgspec

    from mobilevit_sdk.pruning.folder import size_of, top1_of

    measured: list[float | None] = [None, None]
    if test:
        networks = ((original.model, original.spec), (pruned.model, pruned.spec))
        measured = [top1_of(model, each, test, display.update) for model, each in networks]
    sizes = [
        size_of(model, pruned.parameters[i], pruned.macs[i], measured[i])
        for i, model in enumerate((original.model, pruned.model))
    ]
    return {
        "model": pruned.spec.model,
        "source": original.source,
        "request": msgspec.to_builtins(request),
        "before": msgspec.to_builtins(sizes[0]),
        "after": msgspec.to_builtins(sizes[1]),
        "test_images": len(test) if test else None,
        "kept": [msgspec.to_builtins(row) for row in pruned.kept],
        "latency": None,
        "frontier": None,
        "finetuned": None,
    }


def _table(original: Checkpoint, display: Display) -> dict[str, float]:
    """The latency table of a network, which names what it was measured in."""
    from mobilevit_sdk.pruning.latency import measure_table, timing_format

    found = timing_format()
    display.line(f"layers are timed in {found or 'PyTorch: no runtime of a phone format can time them here'}")
    size = original.spec.preprocessing.image_size
    return measure_table(original.model, size, lambda *done: display.update("timing layers", *done))


def _latency(original: Checkpoint, folder: Path, display: Display) -> dict[str, Any] | None:
    """Of the phone files of both networks, where they can be made and timed here."""
    import msgspec

    from mobilevit_sdk.checkpoints.load import load_checkpoint
    from mobilevit_sdk.pruning.folder import CHECKPOINT, FILES
    from mobilevit_sdk.pruning.phone_files import measure_files, timed_formats

    if not timed_formats():
        display.line("no phone format can be made and timed here, so no latency is measured (see mobilevit doctor)")
        return None
    pruned = load_checkpoint(folder / CHECKPOINT)
    found: dict[str, Any] = msgspec.to_builtins(measure_files(original, pruned, folder / FILES, display.update))
    return found


def _sweep(
    original: Checkpoint,
    request: Request,
    images: PruningImages | None,
    test: ImageDataset,
    latencies: dict[str, float] | None,
    display: Display,
) -> list[dict[str, float]]:
    """Top-1 and what is left at each share; shares that cannot be had end it."""
    import msgspec

    from mobilevit_sdk.pruning import prune_network
    from mobilevit_sdk.pruning.folder import top1_of

    rows = []
    for keep in SWEEP:
        try:
            pruned = prune_network(
                original.model,
                original.spec,
                msgspec.structs.replace(request, keep=keep),
                images,
                latency_table=latencies,
                report=display.update,
            )
        except RequestError as error:
            display.line(str(error))
            break
        top1 = top1_of(pruned.model, pruned.spec, test, display.update)
        macs, parameters = (after / before for before, after in (pruned.macs, pruned.parameters))
        rows.append({"keep": keep, "macs": macs, "parameters": parameters, "top1": top1})
        display.line(f"keep {keep:.1f}: top-1 {top1:.2%}")
    return rows


def _recipe(epochs: int, distil: str | None, temperature: float | None, file: Path | None, seed: int) -> Recipe:
    """For fine-tuning, taught by the unpruned network."""
    import msgspec

    from mobilevit_sdk.training import FINETUNE_RECIPE, Distillation, read_recipe

    try:
        recipe = read_recipe(file) if file else FINETUNE_RECIPE
        how = recipe.distillation or FINETUNE_RECIPE.distillation or Distillation()
        given = {"kind": distil, "temperature": temperature}
        how = msgspec.structs.replace(how, **{name: value for name, value in given.items() if value is not None})
        return msgspec.structs.replace(recipe, epochs=epochs, seed=seed, distillation=how)
    except ValueError as error:
        raise RequestError(f"the recipe's {error}") from error


def _finetune(
    start: Checkpoint,
    original: Checkpoint,
    recipe: Recipe,
    train: ImageDataset,
    test: ImageDataset,
    folder: Path,
    device: str,
    display: Display,
) -> dict[str, Any]:
    from mobilevit_sdk.cli.training import device_named, run_training
    from mobilevit_sdk.pruning.folder import FINETUNED
    from mobilevit_sdk.training import Trainer
    from mobilevit_sdk.training.start import network_for_training

    network = network_for_training(start.spec, recipe, start)
    trainer = Trainer(
        network,
        start.spec,
        recipe,
        train,
        test,
        folder / FINETUNED,
        device=device_named(device),
        teacher=original,
        report=display.update,
    )
    result = run_training(trainer, display, "fine-tuning")
    checkpoint = str(trainer.out / "model.safetensors")
    return {"checkpoint": checkpoint, "epochs": result.epoch, "top1": result.top1, "top5": result.top5}


def _target(document: dict[str, Any]) -> str:
    return f"{document['request']['keep']:.0%} of its {document['request']['measure']}"


def _print(document: dict[str, Any], folder: Path) -> None:
    from rich.table import Table

    before, after = document["before"], document["after"]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "before", "after", "left"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for name, label in (("parameters", "parameters"), ("macs", "multiply-accumulates")):
        table.add_row(label, f"{before[name]:,}", f"{after[name]:,}", f"{after[name] / before[name]:.1%}")
    measured = (document["latency"] or {}).get("rows", [])
    sizes = {f"size for {row['format']}": row["bytes"] for row in measured}
    for label, (one, other) in (sizes or {"size in float32": (before["bytes"], after["bytes"])}).items():
        table.add_row(label, f"{one:,} B", f"{other:,} B", f"{other / one:.1%}")
    for row in measured:
        label = f"{row['runtime']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"
        if row["median_ms"]:
            table.add_row(label, *(f"{median:.2f} ms" for median in row["median_ms"]), f"{row['ratio']:.1%}")
        else:
            table.add_row(label, row["reason"])
    if before["top1"] is not None:
        lost = 100 * (after["top1"] - before["top1"])
        table.add_row("top-1", f"{before['top1']:.2%}", f"{after['top1']:.2%}", f"{lost:+.2f} points")
    if document["finetuned"]:
        top1 = document["finetuned"]["top1"]
        lost = 100 * (top1 - before["top1"])
        table.add_row("top-1, fine-tuned", f"{before['top1']:.2%}", f"{top1:.2%}", f"{lost:+.2f} points")
    out.print(table)
    click.echo(f"\n{document['finetuned']['checkpoint'] if document['finetuned'] else folder / 'pruned.safetensors'}")


def _request(
    shares: dict[str, float | None], importance: str | None, data: Path | None, options: dict[str, int | None]
) -> Request:
    from mobilevit_sdk.pruning.request import make_request

    given = {measure: share for measure, share in shares.items() if share is not None}
    if len(given) != 1:
        raise RequestError("give one share to keep, such as --macs 0.7 or --params 0.6")
    ((measure, keep),) = given.items()
    chosen = {name: value for name, value in options.items() if value is not None}
    criterion = importance or ("taylor" if data else "magnitude")
    return make_request(measure, keep, {"importance": criterion, **chosen})
