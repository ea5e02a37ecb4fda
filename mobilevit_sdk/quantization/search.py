"""The search for a recipe: observe ranges, measure every block, walk along the frontier until the goal holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data.calibration import CalibrationImages
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.quantization.judgment import labels_of
from mobilevit_sdk.quantization.preparation import deploy_prepared
from mobilevit_sdk.quantization.sensitivity import BlockLoss, CalibrationBatches, Point, block_losses, frontier
from mobilevit_sdk.quantization.simulation import observe_ranges
from mobilevit_sdk.spec import Strict

IMAGES_FOR_A_BLOCK = 32  # noise in the scores shows on few images; a change of class does not


class Goal(Strict, frozen=True):
    """What the search has to reach: a drop of top-1 where the images have labels, else agreement; and the size."""

    top1_drop: float = 0.5  # points, in percent
    agreement: float = 0.98  # share of the images that keep their class
    size: float = 0.5  # weights and constants over those in float32

    def holds(self, point: Point) -> bool:
        if point.top1_drop is None:
            return point.agreement >= self.agreement
        return point.top1_drop <= self.top1_drop


@dataclass(frozen=True, kw_only=True)
class PointFound(Step):
    """The search has another trade of size for accuracy."""

    point: Point


class SearchResult(Strict, frozen=True):
    """Blocks, worst first; trades, smallest first; `chosen` is the first that reaches the goal, or None."""

    precision: str
    images: int
    losses: tuple[BlockLoss, ...]
    points: tuple[Point, ...]
    chosen: Point | None
    recipe: QuantizationRecipe  # of `chosen`; where that is None, of the most accurate trade within the size


def search_recipe(
    checkpoint: Checkpoint,
    quantization: Quantization,
    held_out: CalibrationImages,
    precision: str,
    goal: Goal,
    *,
    walk: bool = True,
    progress: Progress = silent,
) -> SearchResult:
    """Find what has to stay in floating point, judged on `held_out`; without `walk`, measure the blocks only.

    The network is computed in floating point with rounded weights and activations, in the graph for LiteRT. `progress`
    hears of each trade in a PointFound. Raises RequestError where nothing can be quantized.
    """
    recipe, images = quantization.recipe, quantization.images
    graph = deploy_prepared(checkpoint.model, "litert-cpu", checkpoint.spec, quantization, precision, progress)
    ranges = None
    if precision == "int8":
        ranges = observe_ranges(
            graph, recipe, images, lambda done: progress(Step("observing ranges", done, len(images)))
        )
    judged = CalibrationBatches([np.asarray(image) for image in held_out], labels_of(held_out, checkpoint.spec))
    some = CalibrationBatches(judged.pixels[:: max(1, len(judged.pixels) // IMAGES_FOR_A_BLOCK)], None)
    losses = block_losses(graph, recipe, precision, ranges, some, progress)
    points: list[Point] = []
    if walk:
        for point in frontier(graph, recipe, precision, ranges, judged, losses):
            if point.size > goal.size:
                break
            points.append(point)
            progress(PointFound("trading size for accuracy", len(points), point=point))
            if goal.holds(point):
                break
        if not points:
            raise RequestError(
                f"even with everything quantized, the network is larger than {goal.size:.0%} of its float size"
            )
    chosen = next((point for point in points if goal.holds(point)), None)
    best = chosen or max(points, key=lambda point: point.agreement, default=None)
    return SearchResult(
        precision=precision,
        images=len(held_out),
        losses=tuple(losses),
        points=tuple(points),
        chosen=chosen,
        recipe=msgspec.structs.replace(recipe, float_modules=best.float_modules) if best else recipe,
    )


def write_result(result: SearchResult, folder: Path) -> None:
    """Write recipe.json and sensitivity.json. Raises RequestError where the folder cannot be written."""
    for name, value in (("recipe.json", result.recipe), ("sensitivity.json", result)):
        with replacing(folder / name) as fresh:
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
