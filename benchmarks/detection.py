"""A small DETR on photographs, the whole way: train, prune, convert, and evaluate every file.

    python benchmarks/detection.py --train-data TRAIN --test-data TEST [--out DIR]
    python benchmarks/detection.py --page-only

TRAIN and TEST have labeled boxes: BCCD's photographs of blood cells, in the layout of Hugging Face's `datasets`. The
network first learns to find many drawn shapes (`shapes.py`), for 270 photographs are too few to begin with, then a
tenth of TRAIN is held out and shows how it goes. Nothing is chosen: weights are those of the last epoch, and TEST is
measured once. Steps stay in `--out` and are resumed. Writes docs/measured/detection.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from detection_page import FileRow, Record, Step, write_detection
from set_prediction import NETWORK
from shapes import write_shapes
from shared import MEASURED, read_record, tell, write_record

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.conversion.pipeline import convert
from mobilevit_sdk.data import ImageDataset, open_dataset, split_dataset
from mobilevit_sdk.evaluation.measure import evaluate
from mobilevit_sdk.progress import Step as Progressed
from mobilevit_sdk.pruning.request import Request
from mobilevit_sdk.pruning.run import prune_into
from mobilevit_sdk.recipe import DETECTION_RECIPE, Recipe
from mobilevit_sdk.training import train
from mobilevit_sdk.training.progress import EpochDone

SIZE = (120, 160)
PRETRAINING = msgspec.structs.replace(
    DETECTION_RECIPE,
    epochs=10,
    learning_rate=5e-4,
    backbone_rate=1.0,  # it is not pretrained
    crop_scale=(0.6, 1.0),
    model={},
)
TRAINING = msgspec.structs.replace(
    PRETRAINING, epochs=150, batch_size=8, crop_scale=(0.3, 1.0), augment_ops=1, model={"dropout": 0.1}
)
FINETUNING = msgspec.structs.replace(TRAINING, epochs=60, learning_rate=3e-4)
KEEP = 0.7
FORMATS = {
    "executorch": ("fp32", "fp16", "int8"),
    "tflite": ("fp32", "fp16", "int8"),
    "onnx": ("fp32", "int8"),
    "coreml": ("fp32", "fp16", "int8"),
}
OF_THE_PRUNED = {"executorch": ("fp32", "int8"), "tflite": ("fp32", "int8")}


def show(step: Progressed) -> None:
    """A line for each tenth epoch."""
    if isinstance(step, EpochDone) and step.result.epoch % 10 == 0:
        tell(f"{step.stage}: loss {step.result.loss:.2f}, {step.result.describe()}")


def pretrain(out: Path, recipe: Recipe) -> Path:
    """On drawn shapes, up to 16 of them."""
    pictures = {}
    for name, count, seed in (("crowd", 5000, 3), ("crowd-test", 200, 4)):
        pictures[name] = out / f"{name}.parquet"
        if not pictures[name].exists():
            write_shapes(pictures[name], count, seed, most=16)
    options: dict[str, Any] = {**NETWORK, "num_queries": 40}
    return train(
        *pictures.values(),
        out / "pre",
        model="detr_resnet50",
        options=options,
        image_size=128,
        recipe=recipe,
        device="cpu",
        progress=show,
    ).path


def files_of(
    checkpoint: Path, formats: dict[str, Sequence[str]], out: Path, data: Path, test: ImageDataset
) -> list[FileRow]:
    """Each file with what the gate says and its average precision."""
    rows = []
    for name, precisions in formats.items():
        made = convert(checkpoint, out=out, formats=name, precisions=list(precisions), calibration=data)
        for artifact in made.artifacts:
            judged = [each for each in made.verdicts if each.artifact == str(artifact.path) and each.agreement]
            measured = evaluate(artifact, data=test)
            shares = measured.accuracy.shares
            rows.append(
                FileRow(
                    format=name,
                    precision=artifact.manifest.precision,
                    runtime=measured.runtime,
                    bytes=judged[0].bytes,
                    status=", ".join(sorted({each.status for each in judged})),
                    worst_db=min(each.agreement.sqnr_db.worst for each in judged if each.agreement),
                    ap=shares["ap"],
                    ap50=shares["ap50"],
                    task=judged_by_task(artifact),
                )
            )
            tell(f"{artifact.path.parent.name}: AP {shares['ap']:.2%}")
    return rows


def judged_by_task(artifact: Artifact) -> str:
    """Of a file with integers: on photographs that did not calibrate it."""
    record = artifact.manifest.quantization
    if record is None or record.judgment is None:
        return ""
    found = record.judgment
    return f"{found.agreement:.1%} of {found.counted:,} objects, {found.overall_sqnr_db:.1f} dB"


def measure(options: argparse.Namespace) -> Record:
    out, test = options.out, open_dataset(options.test_data, labeled=True).checked()
    out.mkdir(parents=True, exist_ok=True)
    data = open_dataset(options.train_data, labeled=True).checked()
    start = pretrain(out, PRETRAINING)
    trained = train(
        data,
        None,
        out / "tuned",
        test_share=0.1,
        checkpoint=start,
        image_size=SIZE,
        recipe=TRAINING,
        device="cpu",
        progress=show,
    )
    kept, held_out = split_dataset(data, 0.1)
    original = load_checkpoint(trained.path)
    request = Request(keep=KEEP)
    report = prune_into(
        out / "pruned",
        original,
        request,
        train=kept,
        test=held_out,
        bench=False,
        recipe=FINETUNING,
        device="cpu",
        progress=show,
    )
    assert report.finetuned is not None
    pruned = Path(report.finetuned.checkpoint)
    steps = [
        step_of("trained", trained.path, report.before.macs, test),
        step_of(f"pruned to {KEEP:.0%}, as it is", out / "pruned" / "pruned.safetensors", report.after.macs, test),
        step_of(f"pruned to {KEEP:.0%}, fine-tuned", pruned, report.after.macs, test),
    ]
    return Record(
        train_images=len(kept),
        test_images=len(test),
        objects=sum(map(len, test.objects or ())),
        epochs=(PRETRAINING.epochs, TRAINING.epochs, FINETUNING.epochs),
        steps=steps,
        files=files_of(trained.path, FORMATS, out / "files", options.train_data, test),
        pruned_files=files_of(pruned, OF_THE_PRUNED, out / "pruned-files", options.train_data, test),
    )


def step_of(name: str, checkpoint: Path, macs: int, test: ImageDataset) -> Step:
    """A network in PyTorch."""
    measured = evaluate(str(checkpoint), data=test).accuracy
    parameters = sum(each.numel() for each in load_checkpoint(checkpoint).model.parameters())
    by_class = getattr(measured, "by_class", {})
    return Step(name=name, parameters=parameters, macs=macs, by_class=by_class, **measured.shares)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train-data", type=Path)
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/detection"), help="trainings, files and the record")
    parser.add_argument("--page-only", action="store_true", help="write the page from the record in --out")
    options = parser.parse_args(arguments)
    record = options.out / "record.json"
    if not options.page_only:
        if not options.train_data or not options.test_data:
            parser.error("give --train-data and --test-data, or --page-only")
        torch.set_num_threads(1)  # the same bits on every machine of a kind
        write_record(measure(options), record)
    write_detection(read_record(record, Record), MEASURED / "detection.md")


if __name__ == "__main__":
    main()
