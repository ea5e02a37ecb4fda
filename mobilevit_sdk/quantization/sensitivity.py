"""Which blocks lose most in few bits, and how many of them must keep floating point until accuracy holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from torch import nn

from mobilevit_sdk.artifacts.quantization_record import Judgment
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.deployment import PhoneGraph
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.formats.runtime import as_row
from mobilevit_sdk.parity import Threshold
from mobilevit_sdk.parity.judge import judge_each, worst_judgment
from mobilevit_sdk.parity.views import View, views_of
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.quantization.judgment import with_precision
from mobilevit_sdk.quantization.simulation import Ranges, layers, quantized_layers, simulate, weight_bits
from mobilevit_sdk.spec import ModelSpec, Strict

MAX_BLOCK_LAYERS = 8  # a block has to be small enough to be worth keeping in floating point alone
FLOAT_BYTES = 4


class BlockLoss(Strict, frozen=True):
    """What it costs to quantize one block alone."""

    block: str
    layers: int
    bytes: int  # of its weights in floating point
    sqnr_db: float  # of the scores of all images together, in the worst output
    agreement: float | None  # share of the images that keep their class, 0 to 1, in the worst output


class Point(Strict, frozen=True):
    """One trade of size for accuracy: everything is quantized except `float_modules`.

    Of a network with several outputs the numbers are those of the worst one, top-1 that of the labeled one.
    """

    float_modules: tuple[str, ...]
    size: float  # weights and biases over those of the float network
    agreement: float | None  # share of the images that keep their class, or of a detector's objects, 0 to 1
    overall_sqnr_db: float  # of the scores of all images together
    worst_sqnr_db: float
    median_sqnr_db: float
    top1: float | None  # None where the images have no labels
    top1_drop: float | None  # points lost to the float network, in percent
    rejections: tuple[str, ...]  # why `convert` would reject such a file, each with its bar
    outputs: dict[str, Judgment] | msgspec.UnsetType = msgspec.UNSET  # of each, where there are several
    ap: float | msgspec.UnsetType = msgspec.UNSET  # average precision of a detector, where there are labels
    ap_drop: float | msgspec.UnsetType = msgspec.UNSET  # points lost to the float network, in percent


@dataclass(frozen=True)
class CalibrationBatches:
    """Images to measure blocks of the network of `spec` with: RGB float32 [1, 3, H, W] in [0, 1].

    `labels` are their classes, [images], by the output that they are of, where they are known; `dataset` is where a
    detector's boxes are.
    """

    spec: ModelSpec
    pixels: Sequence[np.ndarray]
    labels: Mapping[str, np.ndarray]
    dataset: ImageDataset | None = None

    def expected(self, graph: PhoneGraph) -> Reference:
        """The graph's answers to them, with the shapes of its outputs."""
        with torch.no_grad():
            one = outputs_of(graph, self.pixels[0])
        return Reference((), scores(graph, self.pixels), tuple(each.shape[1:] for each in one))

    def views(self, expected: Reference, graph: PhoneGraph) -> list[View]:
        """What another graph answers, beside it."""
        return views_of(self.spec, expected, scores(graph, self.pixels))

    def judge(
        self, expected: Reference, graph: PhoneGraph, threshold: Threshold
    ) -> tuple[Judgment, dict[str, Judgment]]:
        """The judgment of another graph's answers, and those of each output."""
        answers = scores(graph, self.pixels)
        views = views_of(self.spec, expected, answers)
        each = judge_each(views, threshold, runtime="pytorch", labels=self.labels)
        judged = with_precision(worst_judgment(each), expected.answers, answers, self.dataset, self.spec)
        return judged, each


def blocks(graph: PhoneGraph, recipe: QuantizationRecipe) -> dict[str, tuple[str, ...]]:
    """The network cut into the largest modules with at most eight quantized layers: path -> paths of those layers."""
    quantized = quantized_layers(graph, recipe)
    found: dict[str, tuple[str, ...]] = {}

    def visit(path: str, module: nn.Module) -> None:
        below = tuple(name for name in quantized if name == path or name.startswith(f"{path}."))
        if not below:
            return
        if path and len(below) <= MAX_BLOCK_LAYERS:
            found[path] = below
            return
        for name, child in module.named_children():
            visit(f"{path}.{name}" if path else name, child)

    for name, child in graph.network.named_children():
        visit(name, child)
    return found


def block_losses(
    graph: PhoneGraph,
    recipe: QuantizationRecipe,
    precision: str,
    ranges: dict[str, Ranges] | None,
    images: CalibrationBatches,
    progress: Progress = silent,
) -> list[BlockLoss]:
    """Quantize each block alone and compare the scores; the worst block comes first.

    `progress` is told how many blocks are done. Raises RequestError where nothing is quantized.
    """
    cut = blocks(graph, recipe)
    if not cut:
        raise RequestError("the recipe quantizes nothing of this network")
    expected = images.expected(graph)
    losses = []
    for done, (block, inside) in enumerate(cut.items()):
        progress(Step("measuring blocks", done, len(cut)))
        others = tuple(path for path in layers(graph) if path not in inside)
        only = msgspec.structs.replace(recipe, float_modules=others)
        views = images.views(expected, simulate(graph, only, precision, ranges))
        alone = [view.compare() for view in views]
        losses.append(
            BlockLoss(
                block=block,
                layers=len(inside),
                bytes=sum(FLOAT_BYTES * layers(graph)[path].weight.numel() for path in inside),
                sqnr_db=min(each.overall_sqnr_db for each in alone),
                agreement=min((each.top1_agreement for each in alone if each.top1_agreement is not None), default=None),
            )
        )
    progress(Step("measuring blocks", len(cut), len(cut)))
    return sorted(losses, key=lambda loss: loss.sqnr_db)


def frontier(
    graph: PhoneGraph,
    recipe: QuantizationRecipe,
    precision: str,
    ranges: dict[str, Ranges] | None,
    images: CalibrationBatches,
    losses: Sequence[BlockLoss],
    threshold: Threshold,
) -> Iterator[Point]:
    """Yield trades with more and more of the worst blocks in floating point: 0, 1, 2, 3, 4, 6, 8, 12, 16, ...

    Blocks are ordered by the noise that they add per byte that they cost. `threshold` is what a file must reach.
    """
    expected = images.expected(graph)
    order = sorted(losses, key=lambda loss: -(10 ** (-loss.sqnr_db / 10)) / loss.bytes)
    for count in _counts(len(order)):
        kept = tuple(loss.block for loss in order[:count])
        mixed = msgspec.structs.replace(recipe, float_modules=(*recipe.float_modules, *kept))
        judged, each = images.judge(expected, simulate(graph, mixed, precision, ranges), threshold)
        assert judged.overall_sqnr_db is not None  # only in what was written before it was judged
        yield Point(
            float_modules=mixed.float_modules,
            size=size(graph, mixed, precision),
            agreement=judged.agreement,
            overall_sqnr_db=judged.overall_sqnr_db,
            worst_sqnr_db=judged.worst_sqnr_db,
            median_sqnr_db=judged.median_sqnr_db,
            top1=judged.top1,
            top1_drop=judged.top1_drop,
            rejections=judged.reasons,
            outputs=each if len(each) > 1 else msgspec.UNSET,
            ap=judged.ap,
            ap_drop=msgspec.UNSET if judged.ap_drop is None else judged.ap_drop,
        )


def size(graph: PhoneGraph, recipe: QuantizationRecipe, precision: str) -> float:
    """Bytes of the network's weights and constants over those in float32."""
    quantized = quantized_layers(graph, recipe)
    every = sum(p.numel() for p in graph.parameters()) + sum(b.numel() for b in graph.buffers())
    weights = [layer.weight for layer in quantized.values()]
    saved = sum(w.numel() * (32 - weight_bits(w, precision, recipe.group_size)) / 8 for w in weights)
    return 1 - saved / (FLOAT_BYTES * every)


@torch.no_grad()
def scores(graph: PhoneGraph, images: Sequence[np.ndarray]) -> np.ndarray:
    """The graph's answers, float32 [images, values], all outputs of an image in one row."""
    return np.stack([as_row(outputs_of(graph, image)) for image in images])


def outputs_of(graph: PhoneGraph, image: np.ndarray) -> list[np.ndarray]:
    """The graph's outputs for an image, [1, ...] each, in the order of the spec."""
    found = graph(torch.from_numpy(image))
    return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]


def _counts(highest: int) -> list[int]:
    counts, step = list(range(min(4, highest) + 1)), 2
    while counts[-1] < highest:
        counts += [min(counts[-1] + step, highest), min(counts[-1] + 2 * step, highest)]
        step *= 2
    return sorted(set(counts))
