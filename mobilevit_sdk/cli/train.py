"""`mobilevit train`: train a model from scratch, fine-tune a checkpoint, or learn a task on a frozen one."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilevit_sdk.cli.common import log, print_json, print_notes, print_result, verb
from mobilevit_sdk.cli.data_options import DATA_HELP, DataSource, OpenImages, data_options
from mobilevit_sdk.cli.preparation import ImageSize, preparation_options
from mobilevit_sdk.errors import RequestError

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.preparation import Preparation
    from mobilevit_sdk.files import Address

PATH = click.Path(path_type=Path)


class _Sizes(click.ParamType):
    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            return tuple(int(size) for size in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of sizes in pixels, such as 32,48,64", param, ctx)


class _Option(click.ParamType):
    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        name, _, text = str(value).partition("=")
        try:
            return name.strip(), json.loads(text)
        except ValueError:
            self.fail(f"{value!r} is not a name and a JSON value, such as num_queries=40", param, ctx)


@verb("train", "Train from scratch, fine-tune a checkpoint, or learn a task on one.", processes=True)
@click.option("--model", metavar="NAME", help="Train this model from scratch.  [default: mobilevit_xxs]")
@click.option(
    "--set",
    "options",
    type=_Option(),
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value in the config of --model, as JSON, such as num_queries=40. May be given again.",
)
@click.option("--checkpoint", metavar="FILE", help="Fine-tune this checkpoint instead, or hf-hub:org/name.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="TEACHER",
    help="Distill from this checkpoint, hf-hub:org/name, timm:NAME[=FILE] or python:FILE.py:FUNCTION. May be given "
    "again: the mean of all.",
)
@click.option("--labels", type=PATH, metavar="DIR", help="Learn from the answers that `mobilevit label` stored.")
@click.option("--reuse-labels", is_flag=True, help="With more epochs than --labels has, begin with the first again.")
@click.option(
    "--qat",
    type=click.Choice(["int8", "int4-weight"]),
    is_flag=False,
    flag_value="int8",
    help="Prepare --checkpoint for this precision, in a short training as its own teacher.  [int8 without a value]",
)
@click.option("--quantization", type=PATH, metavar="FILE", help="Recipe from `mobilevit quantize`, for --qat.")
@click.option(
    "--base", metavar="FILE", help="Learn a task on this ViT, DeiT or DeepViT, whose own answers do not change."
)
@click.option("--task", metavar="NAME", help="With --base: what phone files call the task, such as pets.")
@click.option(
    "--memory", type=click.IntRange(0, 1024), metavar="N", help="With --base: memory cells in each block.  [default: 5]"
)
@click.option(
    "--extends",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="With --base: a task file on it whose class token and memory the new task sees, too. May be given again.",
)
@click.option("--data", type=DataSource(), metavar="PATH", required=True, help=DATA_HELP)
@click.option("--test-data", type=DataSource(), metavar="PATH", help="Images to measure accuracy on after every epoch.")
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Instead of --test-data: hold out this share of each class of --data, such as 0.1.",
)
@click.option("--out", type=PATH, metavar="DIR", required=True, help="Folder of this training.")
@click.option(
    "--image-size",
    type=ImageSize(),
    help="Input in pixels: a square, or height x width, as 192x256.  [default: the model's]",
)
@click.option("--recipe", "recipe_file", type=PATH, metavar="FILE", help="JSON file; the next six options override it.")
@click.option(
    "--epochs", type=int, metavar="N", help="Passes over the images.  [default: 100; 1 with --qat, 20 with --base]"
)
@click.option(
    "--batch-size",
    type=int,
    metavar="N",
    help="Images per step at the full image size.  [default: 128; 64 with --qat, 16 of a detector]",
)
@click.option(
    "--learning-rate",
    type=float,
    metavar="X",
    help="The highest, after warm-up.  [default: 0.002; 1e-4 with --qat or of a detector, 0.02 with --base]",
)
@click.option("--sizes", type=_Sizes(), help="Train at these sizes in pixels, smallest first, then at the full one.")
@click.option(
    "--pack", is_flag=True, help="Images in their own proportions, several in a sequence: for navit_* and naflexvit_*."
)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="bf16: mixed precision.  [default: fp32]")
@click.option("--seed", type=int, metavar="N", help="Random seed.  [default: 0]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all cores]")
@click.option(
    "--track", type=click.Choice(["tensorboard", "wandb"]), help="Loss and accuracies in this tracker as well."
)
@preparation_options(image_size=False, license=False)
@data_options()
def command(
    *,
    model: str | None,
    checkpoint: str | None,
    teachers: tuple[str, ...],
    labels: Path | None,
    reuse_labels: bool,
    qat: str | None,
    quantization: Path | None,
    base: str | None,
    task: str | None,
    memory: int | None,
    extends: tuple[Path, ...],
    data: Path | Address,
    test_data: Path | Address | None,
    test_share: float | None,
    out: Path,
    image_size: tuple[int, int] | None,
    options: tuple[tuple[str, Any], ...],
    recipe_file: Path | None,
    pack: bool,
    device: str,
    threads: int | None,
    track: str | None,
    preparation: Preparation,
    open_images: OpenImages,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Train a model from scratch, fine-tune a checkpoint, or learn a task on a frozen one.

    The folder --out receives model.safetensors (averaged weights, with the recipe and the accuracy in the header),
    best.safetensors (the epoch with the highest top-1), metrics.jsonl and curves.png. After an interruption or a kill,
    the same command resumes where it stopped; with more --epochs, it goes on after the last. --qat brings the answers
    of the file from `mobilevit convert --precision int8` closer to those of the checkpoint.

    With --labels, a student of any size learns from what `mobilevit label` stored, in the augmented views of then, and
    no teacher is loaded: a step costs what one without a teacher does.

    A detector (--model detr_resnet50) learns from labeled boxes, and its quality is COCO's average precision. Its
    authors' weights as --checkpoint are the start that it needs, but for small problems.

    With --base, a class token, memory and a head learn the classes of --data on a network that stays as it is (arXiv
    2203.15243). Both .safetensors are then task files, for `mobilevit convert BASE --task FILE`.
    """
    if base:
        others = {"--model": model, "--checkpoint": checkpoint, "--teacher": teachers, "--labels": labels, "--qat": qat}
        if given := [name for name, value in (others | {"--image-size": image_size}).items() if value]:
            raise RequestError(f"a task learns on --base as it is, so leave out {' and '.join(given)}")
        if not task:
            raise RequestError("the task on --base needs a name for its output in phone files: give --task")
    elif task or memory is not None or extends:
        raise RequestError("--task, --memory and --extends are of a task that learns on a frozen network: give --base")
    if model and checkpoint:
        raise RequestError("--model trains from scratch and --checkpoint fine-tunes: give one of them")
    if options and not model:
        raise RequestError("--set changes the config of a network that starts from nothing: give --model")
    if qat and not checkpoint:
        raise RequestError("--qat prepares a trained network: give --checkpoint")
    if quantization and not qat:
        raise RequestError("--quantization says which layers --qat quantizes: give both")
    if labels and (qat or pack or teachers):
        raise RequestError("--labels are all that is learned: leave out --teacher, --qat and --pack")
    if reuse_labels and not labels:
        raise RequestError("--reuse-labels begins with the first of --labels again: give both")
    if (test_data is None) == (test_share is None):
        raise RequestError("accuracy is measured on --test-data, or on a --test-share of --data: give one of them")
    from mobilevit_sdk.checkpoints.preparation import AS_STATED
    from mobilevit_sdk.cli.display import import_torch

    if pack and (qat or base):
        raise RequestError("--pack trains a whole network on images of many sizes: leave out --qat and --base")
    if preparation != AS_STATED and not (checkpoint or base):
        raise RequestError("--windows, --preprocessing and the like say how --checkpoint was trained: give it")
    import_torch(log)

    import torch

    from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
    from mobilevit_sdk.checkpoints.load import load_prepared
    from mobilevit_sdk.cli.training import TrainingDisplay
    from mobilevit_sdk.formats.quantization import read_recipe as read_quantization
    from mobilevit_sdk.models.registry import model_spec
    from mobilevit_sdk.recipe import LABELS_RECIPE, MEMORY_RECIPE, PACKED_RECIPE, QAT_RECIPE, Recipe, make_recipe
    from mobilevit_sdk.tasks import task_of
    from mobilevit_sdk.tasks.classes import class_order_notes
    from mobilevit_sdk.training import train, train_task
    from mobilevit_sdk.training.labels import open_labels
    from mobilevit_sdk.training.run import DEFAULT_MODEL
    from mobilevit_sdk.training.start import initial_checkpoint
    from mobilevit_sdk.training.teachers import open_teachers
    from mobilevit_sdk.training.tracking import check_tracker
    from mobilevit_sdk.training.world import check_batches, connected

    if threads:
        torch.set_num_threads(threads)
    layers = read_quantization(quantization) if quantization else None
    first = PACKED_RECIPE if pack else LABELS_RECIPE if labels else Recipe()
    check_tracker(track)
    # What is wrong with it is said before images are read.
    check_batches(make_recipe(recipe_file, overrides, first, qat, layers, pack=pack))
    stored = open_labels(labels, reuse=reuse_labels) if labels else None
    images, test_images = open_images(data, labeled=True), open_images(test_data, labeled=True)
    if image_size:  # --resize is of this size
        preparation = dataclasses.replace(preparation, image_size=image_size)
    initial = initial_checkpoint(checkpoint, images, preparation) if checkpoint else None
    spec = initial.spec if initial else model_spec(model or DEFAULT_MODEL)
    default = MEMORY_RECIPE if base else QAT_RECIPE if qat else first if pack or labels else task_of(spec).recipe
    recipe = make_recipe(recipe_file, overrides, default, qat, layers, pack=pack)
    print_notes((*initial.notes, *class_order_notes(images, initial.spec)) if initial else ())
    side = max(image_size or initial.spec.preprocessing.image_size) if initial else 0
    if "resize_size" in preparation.fields and images.typical_side() <= side:
        print_notes([f"--resize has no effect: most images are not larger than {side} pixels and are enlarged to that"])
    taught_by = open_teachers(teachers) if teachers else [initial] if initial and qat else None
    print_notes(note for each in taught_by or () if teachers and isinstance(each, Checkpoint) for note in each.notes)
    print_notes(stored.notes(recipe) if stored else ())
    frozen = load_prepared(base, preparation) if base else None
    print_notes(frozen.notes if frozen else ())
    started = time.monotonic()
    with connected(), TrainingDisplay(log) as display:
        common: dict[str, Any] = {"test_share": test_share, "recipe": recipe, "device": device, "progress": display}
        common["track"] = track
        if frozen and task:
            cells = 5 if memory is None else memory
            trained = train_task(frozen, images, test_images, out, task=task, memory=cells, extends=extends, **common)
        else:
            trained = train(
                images,
                test_images,
                out,
                model=model,
                checkpoint=initial,
                teacher=taught_by,
                labels=stored,
                image_size=image_size,
                options=dict(options),
                windows=preparation.windows,
                **common,
            )
    result, (height, width) = trained.result, trained.spec.preprocessing.image_size
    if as_json:
        print_json(
            {
                "model": trained.spec.model,
                "task": task,
                "checkpoint": str(trained.path),
                "image_size": height if height == width else [height, width],
                "classes": trained.spec.num_classes,
                "epochs": result.epoch,
                **result.shares,
                **result.heads,
                **({} if result.top1 is None else {"quantized_top1": result.quantized_top1}),
                "best_checkpoint": str(trained.best_path),
                "best_epoch": trained.best.epoch,
                **{f"best_{name}": share for name, share in [*trained.best.shares.items()][:1]},
                "test_images": trained.test_images,
                "resumed": trained.resumed,
                "seconds": round(time.monotonic() - started, 1),
            }
        )
    else:
        print_result(f"{trained.path}: {result.describe()} on {trained.test_images:,} images")
        if trained.best.epoch != result.epoch:
            print_result(
                f"{trained.best_path}: epoch {trained.best.epoch}, {trained.best.describe()}; these images chose it, "
                f"so measure it on others"
            )
