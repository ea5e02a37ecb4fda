"""The search as a whole: observe_ranges, measure every block, walk along the frontier until accuracy holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data.calibration import CalibrationImages
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.progress import Report
from mobilevit_sdk.quantization.judgment import labels_of
from mobilevit_sdk.quantization.preparation import prepare
from mobilevit_sdk.quantization.sensitivity import BlockLoss, CalibrationBatches, Point, block_losses, frontier
from mobilevit_sdk.quantization.simulation import observe_ranges
from mobilevit_sdk.spec import Strict

IMAGES_FOR_A_BLOCK = 32  # noise in the scores shows on few images; a change of class does not


class Goal(Strict, frozen=True):
    """What the search is to reach: points of top-1 lost where the images have labels, else agreement; and the size."""

    top1_drop: float = 0.5
    agreement: float = 0.98
    size: float = 0.5  # weights and constants over those in float32

    def holds(self, point: Point) -> bool:
        if point.top1_drop is None:
            return point.agreement >= self.agreement
        return point.top1_drop <= self.top1_drop


class SearchResult(Strict, frozen=True):
    """Blocks, worst first; trades, smallest first; `chosen` is the first that reaches the goal, or None."""

    precision: str
    images: int
    losses: tuple[BlockLoss, ...]
    points: tuple[Point, ...]
    chosen: Point | None
    recipe: QuantizationRecipe  # of the chosen trade; without one, of the most accurate within the size


def search(
    checkpoint: Checkpoint,
    quantization: Quantization,
    held_out: CalibrationImages,
    precision: str,
    goal: Goal,
    *,
    walk: bool = True,
    on_point: Callable[[Point], None] = lambda point: None,
    report: Report = lambda what, done, total: None,
) -> SearchResult:
    """Find what has to stay in floating point. `held_out` judges; `walk` says whether to go along the frontier.

    The network is computed in floating point with rounded weights and activations, in the graph of LiteRT. Raises
    RequestError where nothing can be quantized.
    """
    recipe = quantization.recipe
    graph = deploy(checkpoint.model, "litert-cpu", checkpoint.spec, quantized=True)
    prepare(graph, quantization, precision)
    ranges = None
    if precision == "int8":
        images = quantization.images
        ranges = observe_ranges(graph, recipe, images, lambda done: report("calibrating", done, len(images)))
    judged = CalibrationBatches([np.asarray(image) for image in held_out], labels_of(held_out, checkpoint.spec))
    some = CalibrationBatches(judged.pixels[:: max(1, len(judged.pixels) // IMAGES_FOR_A_BLOCK)], None)
    losses = block_losses(
        graph, recipe, precision, ranges, some, lambda done, total: report("measuring blocks", done, total)
    )
    points: list[Point] = []
    if walk:
        for point in frontier(graph, recipe, precision, ranges, judged, losses):
            if point.size > goal.size:
                break
            points.append(point)
            on_point(point)
            if goal.holds(point):
                break
        if not points:
            raise RequestError(f"quantized whole, the network is already larger than {goal.size:.0%} of its floats")
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
