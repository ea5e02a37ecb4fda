"""`mobilevit train`: train a model from scratch, or fine-tune a checkpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilevit_sdk.cli.common import log, print_json, print_notes, verb
from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.errors import RequestError

if TYPE_CHECKING:
    from mobilevit_sdk.training import Recipe

PATH = click.Path(path_type=Path)


class _Sizes(click.ParamType):
    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            return tuple(int(size) for size in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of sizes in pixels, such as 32,48,64", param, ctx)


@verb("train")
@click.option("--model", metavar="NAME", help="Train this model from scratch.  [default: mobilevit_xxs]")
@click.option("--checkpoint", metavar="FILE", help="Fine-tune this checkpoint instead, or hf-hub:org/name.")
@click.option("--teacher", metavar="FILE", help="Distil from this checkpoint, or hf-hub:org/name.")
@click.option(
    "--qat",
    type=click.Choice(["int8", "int4-weight"]),
    is_flag=False,
    flag_value="int8",
    help="Prepare --checkpoint for this precision: a short training, taught by itself.  [int8 where none is said]",
)
@click.option("--quantization", type=PATH, metavar="FILE", help="Recipe of `mobilevit quantize`, for --qat.")
@click.option("--data", type=PATH, metavar="PATH", required=True, help="Folder of class folders, or Parquet file.")
@click.option("--test-data", type=PATH, metavar="PATH", required=True, help="What to measure on after every epoch.")
@click.option("--out", type=PATH, metavar="DIR", required=True, help="Folder of this training.")
@click.option("--image-size", type=click.IntRange(32, 4096), metavar="N", help="In pixels.  [default: the model's]")
@click.option("--recipe", "recipe_file", type=PATH, metavar="FILE", help="JSON; the next six options override it.")
@click.option("--epochs", type=int, metavar="N", help="How often to see every image.  [default: 100; 1 with --qat]")
@click.option(
    "--batch-size", type=int, metavar="N", help="Images a step at the full image size.  [default: 128; 64 with --qat]"
)
@click.option(
    "--learning-rate", type=float, metavar="X", help="At its highest, after warm-up.  [default: 0.002; 1e-4 with --qat]"
)
@click.option("--sizes", type=_Sizes(), help="Train at these sizes in pixels, small ones first, then at the full one.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="bf16: mixed precision.  [default: fp32]")
@click.option("--seed", type=int, metavar="N", help="Of all that is random.  [default: 0]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all cores]")
def command(
    *,
    model: str | None,
    checkpoint: str | None,
    teacher: str | None,
    qat: str | None,
    quantization: Path | None,
    data: Path,
    test_data: Path,
    out: Path,
    image_size: int | None,
    recipe_file: Path | None,
    device: str,
    threads: int | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Train a model from scratch, or fine-tune a checkpoint.

    The folder --out receives model.safetensors (averaged weights, with the recipe and the accuracy in the header),
    metrics.jsonl and curves.png. Interrupted or killed, the same command goes on where it stopped. With --qat, what
    the checkpoint computes after `mobilevit convert --precision int8` is nearer to what it computes now.
    """
    if model and checkpoint:
        raise RequestError("--model trains from scratch and --checkpoint fine-tunes: give one of them")
    if qat and not checkpoint:
        raise RequestError("--qat prepares a trained network: give --checkpoint")
    if quantization and not qat:
        raise RequestError("--quantization says what --qat quantizes: give both")
    import torch

    from mobilevit_sdk.checkpoints.load import load_checkpoint
    from mobilevit_sdk.cli.training import device_named, run_training
    from mobilevit_sdk.data import open_dataset
    from mobilevit_sdk.training import Trainer
    from mobilevit_sdk.training.start import initial_checkpoint, network_for_training, spec_for_training

    if threads:
        torch.set_num_threads(threads)
    recipe = _recipe(recipe_file, overrides, qat, quantization)
    chosen = device_named(device)
    train, test = open_dataset(data, labeled=True), open_dataset(test_data, labeled=True)
    initial = initial_checkpoint(checkpoint, train) if checkpoint else None
    print_notes(initial.notes if initial else ())
    taught_by = load_checkpoint(teacher) if teacher else initial if qat else None
    print_notes(taught_by.notes if taught_by and teacher else ())
    spec = spec_for_training(model or "mobilevit_xxs", initial, train, image_size)
    network = network_for_training(spec, recipe, initial)
    started = time.monotonic()
    with Display(log) as display:
        trainer = Trainer(
            network, spec, recipe, train, test, out, device=chosen, teacher=taught_by, report=display.update
        )
        result = run_training(trainer, display, "training" if initial is None else "fine-tuning")
    path = out / "model.safetensors"
    if as_json:
        print_json(
            {
                "model": spec.model,
                "checkpoint": str(path),
                "image_size": trainer.image_size,
                "classes": spec.num_classes,
                "epochs": result.epoch,
                "top1": result.top1,
                "top5": result.top5,
                "quantized_top1": result.quantized_top1,
                "test_images": len(test),
                "resumed": trainer.resumed,
                "seconds": round(time.monotonic() - started, 1),
            }
        )
    else:
        click.echo(f"{path}: top-1 {result.top1:.2%}, top-5 {result.top5:.2%} on {len(test):,} images")


def _recipe(file: Path | None, overrides: dict[str, Any], qat: str | None, quantization: Path | None) -> Recipe:
    """The recipe of the file, or the default one for the kind of training, with the options that were given."""
    import msgspec

    from mobilevit_sdk.formats.quantization import read_recipe as read_quantization
    from mobilevit_sdk.training import QAT_RECIPE, QuantizationAware, Recipe, read_recipe

    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        recipe = read_recipe(file) if file else QAT_RECIPE if qat else Recipe()
        if qat:
            aware = recipe.quantization_aware or QuantizationAware()
            layers = read_quantization(quantization) if quantization else aware.quantization
            given["quantization_aware"] = msgspec.structs.replace(aware, precision=qat, quantization=layers)
        return msgspec.structs.replace(recipe, **given)
    except ValueError as error:
        raise RequestError(f"the recipe's {error}") from error
