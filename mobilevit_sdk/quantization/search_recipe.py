"""From a checkpoint to a quantization recipe: what `mobilevit quantize` runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from mobilevit_sdk.checkpoints.load import CheckpointLike, as_checkpoint
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.files import require_place
from mobilevit_sdk.formats.quantization import QUANTIZED, QuantizationRecipe, as_recipe
from mobilevit_sdk.parity import THRESHOLDS, Threshold
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.quantization.calibrated import calibration_for
from mobilevit_sdk.quantization.chart import write_chart
from mobilevit_sdk.quantization.search import Goal, SearchResult, search_recipe, write_result

CHART = "sensitivity.png"


def quantize(
    checkpoint: CheckpointLike = None,
    *,
    precision: str = "int8",
    calibration: ImageDataset | Path | str | None = None,
    recipe: QuantizationRecipe | Path | str | None = None,
    goal: Goal | None = None,
    search: bool = False,
    out: Path | str | None = None,
    thresholds: Mapping[str, Threshold] | None = None,
    progress: Progress = silent,
) -> SearchResult:
    """Measure what each block of a network loses in few bits; with `search`, find a recipe for `convert`.

    `checkpoint` is one that was loaded, a file or `hf-hub:org/name`; by default the one that ships with the package.
    Blocks are measured by the SQNR of the scores in dB. The search starts from `recipe` and keeps the blocks that lose
    most in floating point, until the top-1 accuracy, or without labels the agreement with the float network, reaches
    `goal` on images that did not calibrate. `calibration` is a folder or a Parquet file of 100 to 500
    images; by default they are synthesized, which takes minutes. Everything is computed in PyTorch with rounded weights
    and activations. `out` receives recipe.json, sensitivity.json and sensitivity.png. `thresholds` are those that the
    file will be judged by, by default `parity.THRESHOLDS`: `expected` of the result says whether `convert` would reject
    a file that is made with the recipe.

    The result's `chosen` is None when nothing within the goal's size reaches it; its `recipe` is then the most accurate
    one. `progress` is called with a PointFound for each trade of size for accuracy. Raises RequestError for a precision
    without integers, too few images, a network with nothing to quantize, and a folder that cannot be written.
    """
    if precision not in QUANTIZED:
        raise RequestError(f"{precision!r} is not an integer precision; {suggest(precision, QUANTIZED)}")
    if out is not None:
        require_place(Path(out))
    goal, recipe, checkpoint = goal or Goal(), as_recipe(recipe), as_checkpoint(checkpoint)
    if not checkpoint.spec.num_queries:
        checkpoint.spec.require_scores("a search for a recipe")
    images = None if calibration is None else open_dataset(calibration)
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as scratch:
        calibrated = calibration_for(checkpoint, recipe, images, Path(scratch), progress)
        quantization, held_out = calibrated.quantization, calibrated.held_out
        result = search_recipe(
            checkpoint,
            quantization,
            held_out,
            precision,
            goal,
            threshold=(thresholds or THRESHOLDS)[precision],
            walk=search,
            progress=progress,
        )
    if out is not None:
        write_result(result, Path(out))
        write_chart(result, goal, Path(out) / CHART, title=f"{checkpoint.spec.model}, {precision}")
    return result
