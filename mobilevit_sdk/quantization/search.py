"""The search for a recipe: observe ranges, measure every block, walk along the frontier until the goal holds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mobilevit_sdk.artifacts.quantization_record import Judgment
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data.calibration import CalibrationImages
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.parity import Threshold
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.quantization.judgment import labels_of
from mobilevit_sdk.quantization.preparation import deploy_prepared
from mobilevit_sdk.quantization.sensitivity import BlockLoss, CalibrationBatches, Point, block_losses, frontier
from mobilevit_sdk.quantization.simulation import observe_ranges
from mobilevit_sdk.spec import Strict

IMAGES_FOR_A_BLOCK = 32  # noise in the scores shows on few images; a change of class does not


class Goal(Strict, frozen=True):
    """What the search has to reach: a drop of top-1 or AP where the images have labels, else agreement; and the size.

    Where one image is worth more than `top1_drop`, the images cannot tell it, and the agreement decides. Where that is
    short by less than one image, `sqnr_db` decides. What `convert` would reject reaches no goal. Of several outputs,
    each has to reach it, by its top-1 where the images are labeled for it; features by their SQNR.
    """

    top1_drop: float = 0.5  # points, in percent
    ap_drop: float = 2.0  # of a detector's average precision, points, in percent
    agreement: float = 0.98  # share of the images that keep their class
    sqnr_db: float = 20.0  # of the scores of all images together
    size: float = 0.5  # weights and constants over those in float32

    def resolves_top1(self, images: int) -> bool:
        """Whether a single image is worth no more than the drop."""
        return 100 / images <= self.top1_drop

    def holds(self, point: Point, images: int) -> bool:
        """Whether a point that was measured on so many images reaches the goal."""
        if point.rejections:
            return False
        by_output = point.outputs and point.ap_drop is msgspec.UNSET
        found: list[Point | Judgment] = [*point.outputs.values()] if point.outputs and by_output else [point]
        return all(self._reached(each, images) for each in found)

    def _reached(self, found: Point | Judgment, images: int) -> bool:
        if isinstance(found.ap_drop, float):
            return found.ap_drop <= self.ap_drop
        if found.top1_drop is not None and self.resolves_top1(images):
            return found.top1_drop <= self.top1_drop
        short = 0.0 if found.agreement is None else self.agreement - found.agreement
        exact = short <= 0 and found.agreement is not None
        return exact or (short < 1 / images and (found.overall_sqnr_db or 0.0) >= self.sqnr_db)


@dataclass(frozen=True, kw_only=True)
class PointFound(Step):
    """The search has another trade of size for accuracy."""

    point: Point


class SearchResult(Strict, frozen=True):
    """Blocks, worst first; trades, smallest first; `chosen` is the first that reaches the goal, or None.

    `expected` is what a file made with `recipe` will do on these images, and whether `convert` would reject it.
    """

    precision: str
    images: int
    losses: tuple[BlockLoss, ...]
    points: tuple[Point, ...]
    chosen: Point | None
    expected: Point
    recipe: QuantizationRecipe  # of `chosen`; where that is None, of the most accurate trade within the size


def search_recipe(
    checkpoint: Checkpoint,
    quantization: Quantization,
    held_out: CalibrationImages,
    precision: str,
    goal: Goal,
    *,
    threshold: Threshold,
    walk: bool = True,
    progress: Progress = silent,
) -> SearchResult:
    """Find what has to stay in floating point, judged on `held_out`; without `walk`, measure the blocks only.

    The network is computed in floating point with rounded weights and activations, in the graph for LiteRT. `progress`
    hears of each trade in a PointFound. Raises RequestError where nothing can be quantized.
    """
    recipe, images = quantization.recipe, quantization.images
    graph, _ = deploy_prepared(checkpoint.model, "litert-cpu", checkpoint.spec, quantization, precision, progress)
    ranges = None
    if precision == "int8":
        ranges = observe_ranges(
            graph, recipe, images, lambda done: progress(Step("observing ranges", done, len(images)))
        )
    spec = checkpoint.spec
    pixels = [np.asarray(image) for image in held_out]
    judged = CalibrationBatches(spec, pixels, labels_of(held_out, spec), held_out.dataset)
    some = CalibrationBatches(spec, judged.pixels[:: max(1, len(judged.pixels) // IMAGES_FOR_A_BLOCK)], {})
    losses = block_losses(graph, recipe, precision, ranges, some, progress)
    points: list[Point] = []
    trades = frontier(graph, recipe, precision, ranges, judged, losses, threshold)
    expected = next(trades)  # of the recipe as it is
    if walk:
        for point in itertools.chain([expected], trades):
            if point.size > goal.size:
                break
            points.append(point)
            progress(PointFound("trading size for accuracy", len(points), point=point))
            if goal.holds(point, len(held_out)):
                break
        if not points:
            raise RequestError(
                f"even with everything quantized, the network is larger than {goal.size:.0%} of its float size"
            )
        expected = max(points, key=lambda point: (goal.holds(point, len(held_out)), _accuracy(point)))
    chosen = expected if goal.holds(expected, len(held_out)) and walk else None
    return SearchResult(
        precision=precision,
        images=len(held_out),
        losses=tuple(losses),
        points=tuple(points),
        chosen=chosen,
        expected=expected,
        recipe=msgspec.structs.replace(recipe, float_modules=expected.float_modules),
    )


def _accuracy(point: Point) -> tuple[bool, float, float]:
    """The order of points that miss the goal: what `convert` accepts, then the classes kept, then the SQNR."""
    return not point.rejections, point.agreement or 0.0, point.overall_sqnr_db


def write_result(result: SearchResult, folder: Path) -> None:
    """Write recipe.json and sensitivity.json. Raises RequestError where the folder cannot be written."""
    for name, value in (("recipe.json", result.recipe), ("sensitivity.json", result)):
        with replacing(folder / name) as fresh:
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
