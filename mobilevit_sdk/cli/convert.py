"""`mobilevit convert`: one checkpoint to all phone formats, verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, out, print_json, print_line, print_notes, verb
from mobilevit_sdk.cli.conversion_options import conversion_options, tasks_option
from mobilevit_sdk.cli.data_options import OpenImages, data_options
from mobilevit_sdk.cli.preparation import preparation_options
from mobilevit_sdk.cli.wording import in_options

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.preparation import Preparation
    from mobilevit_sdk.conversion.pipeline import ConvertResult
    from mobilevit_sdk.spec import Features


@verb("convert", "Convert a checkpoint to phone files, and verify them.")
@click.argument("source", metavar="[MODEL_OR_CHECKPOINT]", required=False)
@conversion_options(precisions="each format's own")
@click.option(
    "--backend",
    metavar="NAME",
    help="With --to executorch: xnnpack, the default, coreml, coreai or vulkan. With --to coreml or coreai: ane.",
)
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("out"), show_default=True)
@click.option("--model", help="The model of the checkpoint; by default found by its keys and shapes.")
@click.option(
    "--num-classes", type=click.IntRange(min=1), metavar="N", help="The head's classes; checked against a checkpoint."
)
@click.option(
    "--features",
    type=click.Choice(["pooled", "map"]),
    is_flag=False,
    flag_value="pooled",
    help="Return features instead of class scores: the last map, or its mean.  [pooled without a value]",
)
@click.option("--scores", is_flag=True, help="With --features: return class scores, too, from the same computation.")
@tasks_option
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Class names: a line each, or JSON (see the guide).",
)
@click.option("--random-weights", type=int, metavar="SEED", help="Convert a model by name, without a checkpoint.")
@click.option("--bundle", is_flag=True, help="Beside a .pte, write a .bpte: the file with its test vectors.")
@click.option("--etrecord", is_flag=True, help="Beside a .pte, write an ETRecord for ExecuTorch's Inspector.")
@click.option("--no-verify", is_flag=True, help="Do not run the files.")
@click.option("--force", is_flag=True, help="Convert even what is up to date.")
@preparation_options(several=True)
@data_options()
def command(
    source: str | None,
    formats: list[str],
    precisions: list[str],
    backend: str | None,
    folder: Path,
    model: str | None,
    num_classes: int | None,
    features: Features | None,
    scores: bool,
    tasks: tuple[Path, ...],
    labels: Path | None,
    calibration: Path | None,
    recipe_file: Path | None,
    random_weights: int | None,
    bundle: bool,
    etrecord: bool,
    no_verify: bool,
    force: bool,
    preparation: Preparation,
    open_images: OpenImages,
    as_json: bool,
) -> int:
    """Convert a checkpoint to files that run on phones, and compare each with PyTorch.

    MODEL_OR_CHECKPOINT is a checkpoint (.safetensors, .pth, .pt, .bin, of this SDK or a public release),
    hf-hub:org/name, or a model's name together with --random-weights. Without it, the trained checkpoint that ships
    with the package is converted.
    """
    from mobilevit_sdk.cli.display import import_torch

    import_torch(log)

    import msgspec

    from mobilevit_sdk.checkpoints.source import open_source
    from mobilevit_sdk.cli.display import Display
    from mobilevit_sdk.cli.verify import exit_code
    from mobilevit_sdk.conversion.pipeline import convert
    from mobilevit_sdk.conversion.plan import plan_conversions, plan_notes, plan_sizes
    from mobilevit_sdk.data.calibration import MAX_IMAGES
    from mobilevit_sdk.formats.quantization import read_recipe
    from mobilevit_sdk.parity import find_config, read_thresholds
    from mobilevit_sdk.spec import in_pixels
    from mobilevit_sdk.tasks.classes import class_order_notes

    thresholds = read_thresholds(find_config(Path.cwd()))
    recipe = read_recipe(recipe_file) if recipe_file else None
    images = open_images(calibration, limit=2 * MAX_IMAGES)
    checkpoint = open_source(
        source,
        model=model,
        num_classes=num_classes,
        random_weights_seed=random_weights,
        preparation=preparation,
        labels_file=labels,
        features=features,
        scores=scores,
        tasks=tasks,
    )
    print_line(log, checkpoint.spec.model, "bold", f"from {checkpoint.source} ({checkpoint.layout})")
    print_line(log, "images", "bold", checkpoint.spec.describe_preprocessing())
    if checkpoint.spec.image_sizes:
        print_line(log, "sizes", "bold", ", ".join(map(in_pixels, checkpoint.spec.sizes)))
    print_line(log, "license", "bold", in_options(checkpoint.spec.license or "unknown; `license` states it"))
    plan = plan_conversions(formats, precisions, backend)
    left_out = plan_sizes(plan, formats)[1] if checkpoint.spec.image_sizes else ()
    order = class_order_notes(images, checkpoint.spec) if images else ()
    asked = plan_notes(plan, precisions, calibration=calibration, recipe=recipe)
    print_notes((*checkpoint.notes, *order, *asked, *left_out))
    with Display(log) as display:
        result = convert(
            checkpoint,
            out=folder,
            formats=formats,
            precisions=precisions,
            backend=backend,
            recipe=recipe,
            calibration=images,
            bundle=bundle,
            etrecord=etrecord,
            check=not no_verify,
            force=force,
            thresholds=thresholds,
            progress=display,
        )
    if as_json:
        spec = checkpoint.spec
        said = {
            "preprocessing": msgspec.to_builtins(spec.preprocessing),
            "preprocessing_source": spec.preprocessing_source,
        }
        print_json({**result.to_json(), **said, "license": spec.license})
    else:
        _print_result(result)
    if result.failures:
        return max(failure.exit_code for failure in result.failures)
    if any(artifact.rejected for artifact in result.artifacts):
        return 1
    return 0 if no_verify else exit_code(result.verdicts)


def _print_result(result: ConvertResult) -> None:
    from mobilevit_sdk.cli.tables import Table
    from mobilevit_sdk.cli.verdicts import print_verdicts

    titles = ("artifact", "size", "seconds", "memory", "rank", "delegates", "outside")
    table = Table(*titles, name="artifact", drops=("memory", "seconds", "rank", "outside"))
    for artifact in result.artifacts:
        manifest = artifact.manifest
        outside = manifest.undelegated_ops
        table.add_row(
            artifact.path.parent.name,
            f"{manifest.bytes / 1e6:.2f} MB",
            f"{manifest.seconds:.1f}",
            f"{manifest.peak_memory_bytes / 1e9:.2f} GB",
            str(manifest.max_rank),
            "-" if manifest.delegates is None else str(manifest.delegates),
            "-" if outside is None else str(sum(outside.values())),
        )
    table.print(out)
    for artifact in result.artifacts:
        for extra in artifact.manifest.extras or ():
            out.print(f"{artifact.path.parent.name}/{extra.file}  {extra.bytes / 1e6:.2f} MB", markup=False)
    for artifact in result.artifacts:
        record = artifact.manifest.quantization
        if record and record.judgment:
            word, style = ("rejected", "bold red") if artifact.rejected else ("accepted", "green")
            print_line(out, word, style, f"{artifact.path.parent.name}: {record.judgment.in_words()}")
            for reason in record.judgment.reasons:
                out.print(f"  {reason}", markup=False)
            if artifact.rejected:
                print_line(out, "next", "bold", record.judgment.advice(artifact.manifest.precision))
    if result.verdicts:
        out.print()
        print_verdicts(result.verdicts, out)
    if result.artifacts:
        out.print(f"\nin {result.artifacts[0].path.parent.parent}", markup=False)
    for artifact in result.artifacts:
        for warning in artifact.manifest.warnings:
            print_line(log, "warning", "bold yellow", f"{artifact.path.parent.name}: {warning}")
    for failure in result.failures:
        print_line(log, "error", "bold red", f"{failure.format} {failure.precision}: {in_options(failure.error)}")
