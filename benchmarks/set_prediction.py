"""A small DETR on drawn shapes: what it learns with and without auxiliary losses, and whether it needs suppression.

    python benchmarks/set_prediction.py [--images N] [--epochs E] [--seeds S] [--out DIR]
    python benchmarks/set_prediction.py --page-only

Pictures come from `shapes.py`, those of training, of the choice of nothing, and of the test by seeds of their own. Both
arms have the same network, first weights, pictures, augmentation and steps. Trainings stay in `--out` and are resumed.
Writes docs/measured/set-prediction.md and its plot.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from set_prediction_page import CONFIDENT, SUPPRESSED, Answers, Run, write_set_prediction
from shapes import write_shapes
from shared import MEASURED, read_record, tell, write_record
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.evaluation.measure import network_predictor
from mobilevit_sdk.progress import Step
from mobilevit_sdk.recipe import DETECTION_RECIPE
from mobilevit_sdk.tasks import Detection
from mobilevit_sdk.tasks.detection.average_precision import average_precision
from mobilevit_sdk.tasks.detection.found import Found
from mobilevit_sdk.training.progress import EpochDone
from mobilevit_sdk.training.start import network_for_training, spec_for_training
from mobilevit_sdk.training.trainer import Trainer

ARMS = ("auxiliary", "last layer")
NETWORK: dict[str, Any] = {
    "dim": 96,
    "num_heads": 4,
    "mlp_dim": 192,
    "num_queries": 10,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "backbone_width": 8,
    "backbone_depths": [1, 1, 1, 1],
    "dilated": True,
}


class LastLayer(Detection):
    """Without auxiliary losses: only the last decoder layer is asked."""

    def answers(self, model: nn.Module, x: Tensor) -> Any:
        return super().answers(model, x)[-1:]


def pictures(folder: Path, name: str, count: int, seed: int) -> ImageDataset:
    """Drawn once."""
    path = folder / f"{name}-{count}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_shapes(path, count, seed)
    return open_dataset(path, labeled=True).checked()


def measure(options: argparse.Namespace) -> None:
    """Train and measure what the folder lacks; both arms of one seed before the next."""
    train = pictures(options.out, "train", options.images, 1)
    test = pictures(options.out, "test", options.test_images, 2)
    recipe = msgspec.structs.replace(
        DETECTION_RECIPE,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        crop_scale=(0.6, 1.0),
        model={},
    )
    for seed in range(options.seeds):
        for arm in ARMS:
            path = options.out / f"{arm.replace(' ', '-')}-{seed}.json"
            if path.exists():
                continue
            one = msgspec.structs.replace(recipe, seed=seed)
            spec = spec_for_training("detr_resnet50", None, train, None, None, NETWORK)
            spec = msgspec.structs.replace(spec, preprocessing=spec.preprocessing.at_size(128, 128))
            network = network_for_training(spec, one, None)
            parameters = sum(each.numel() for each in network.parameters())
            folder = path.with_suffix("")
            trainer = Trainer(network, spec, one, train, test, folder, device=torch.device("cpu"), progress=_tell(path))
            if arm != ARMS[0]:
                trainer.task = LastLayer(spec)
            trainer.run()
            history = trainer.history()
            run = Run(
                arm=arm,
                seed=seed,
                parameters=parameters,
                images=len(train),
                epochs=one.epochs,
                batch_size=one.batch_size,
                learning_rate=one.learning_rate,
                seconds=sum(each.seconds for each in history),
                ap=[each.ap or 0.0 for each in history],
                ap50=[each.ap50 or 0.0 for each in history],
                answers=answers_of(folder / "model.safetensors", test),
            )
            write_record(run, path)
            tell(f"{path.stem}: AP {run.ap[-1]:.1%}, AP50 {run.ap50[-1]:.1%}")


def _tell(path: Path) -> Any:
    def progress(step: Step) -> None:
        if isinstance(step, EpochDone):
            tell(f"{path.stem} {step.stage}: loss {step.result.loss:.2f}, {step.result.describe()}")

    return progress


def answers_of(checkpoint: Path, test: ImageDataset) -> Answers:
    """Of the last epoch's averaged weights, with and without suppression of what overlaps."""
    loaded = load_checkpoint(checkpoint)
    task = Detection(loaded.spec)
    predict = network_predictor(loaded.model, loaded.spec)
    found: list[Found | None] = []
    for start in range(0, len(test), 64):
        found += task.find(predict, test, range(start, min(start + 64, len(test))))
    matched = task.match(test)
    assert matched.objects is not None
    names = loaded.spec.labels or ()
    plain, suppressed = (
        average_precision(matched.objects, each, names)
        for each in (found, [None if one is None else suppress(one) for one in found])
    )
    answered = [each for each in found if each is not None]
    confident = [[each.above(probability) for each in answered] for probability in CONFIDENT]
    return Answers(
        test_images=len(test),
        objects=sum(map(len, matched.objects)),
        ap=plain.ap,
        ap50=plain.ap50,
        suppressed_ap=suppressed.ap,
        suppressed_ap50=suppressed.ap50,
        confident=[sum(len(each.classes) for each in some) for some in confident],
        duplicates=[sum(duplicates(each) for each in some) for some in confident],
    )


def duplicates(found: Found) -> int:
    """Of the likeliest first: how many overlap an earlier one of their class by more than SUPPRESSED."""
    return len(found.classes) - len(suppress(found).classes)


def suppress(found: Found) -> Found:
    """Non-maximum suppression within classes."""
    kept: list[int] = []
    for row in range(len(found.classes)):
        if all(
            found.classes[row] != found.classes[other] or _iou(found.boxes[row], found.boxes[other]) <= SUPPRESSED
            for other in kept
        ):
            kept.append(row)
    return Found(found.classes[kept], found.probabilities[kept], found.boxes[kept])


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    shared = float(np.clip(high - low, 0, None).prod())
    union = float(one[2:].prod() + other[2:].prod()) - shared
    return shared / union if union > 0 else 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/set-prediction"), help="trainings and records")
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--test-images", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--page-only", action="store_true", help="write the page from the records in --out")
    options = parser.parse_args(arguments)
    if not options.page_only:
        measure(options)
    runs = [read_record(path, Run) for path in sorted(options.out.glob("*-[0-9].json"))]
    write_set_prediction(runs, MEASURED)


if __name__ == "__main__":
    main()
