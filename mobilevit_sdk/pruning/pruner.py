"""From a checkpoint to a smaller network, in steps: judge, select, cut, measure BatchNorm statistics again."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from torch import nn

from mobilevit_sdk.checkpoints.load import CheckpointLike, as_checkpoint
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.pruning import importance as criteria
from mobilevit_sdk.pruning.cost import Budget, mac_rates, parameter_rates
from mobilevit_sdk.pruning.images import PruningImages, images_for, recognized
from mobilevit_sdk.pruning.importance import Importance
from mobilevit_sdk.pruning.request import Criterion, Measure, Request, make_request
from mobilevit_sdk.pruning.selection import select, sizes_of
from mobilevit_sdk.pruning.statistics import measure_statistics
from mobilevit_sdk.pruning.structure import Structure
from mobilevit_sdk.pruning.surgery import cut
from mobilevit_sdk.spec import ModelSpec

OTHERS: tuple[Criterion, ...] = ("magnitude", "random")  # that a pruning on synthesized images has to beat


@dataclass(frozen=True)
class Kept:
    """How many channels, heads or dimensions of one kind a stage had and has."""

    stage: str
    kind: str
    before: int
    after: int


@dataclass(frozen=True)
class Pruned:
    """A pruned network in reference form, its spec, what it costs, and what was kept of each stage."""

    model: nn.Module
    spec: ModelSpec
    parameters: tuple[int, int]  # before and after
    macs: tuple[int, int]  # before and after, for one image
    kept: tuple[Kept, ...]
    judged_by: Criterion


def prune(
    checkpoint: CheckpointLike = None,
    *,
    macs: float | None = None,
    params: float | None = None,
    latency: float | None = None,
    data: ImageDataset | str | Path | None = None,
    latency_table: Mapping[str, float] | None = None,
    progress: Progress = silent,
    **options: object,
) -> Pruned:
    """A physically smaller network: an ordinary model whose config holds its own widths.

    `checkpoint` is one that was loaded, a file or `hf-hub:org/name`; by default the one that ships with the package.
    One of `macs`, `params` and `latency` is the share to keep, between 0 and 1; `latency` needs a `latency_table` (see
    `pruning.latency`). Other options are the fields of `Request`. `data` is labeled images, as a dataset or a path: the
    importance `taylor` is measured on them, and BatchNorm statistics after each step. The checkpoint stays as it is.

    Without `data`, accuracy is lost, as a UserWarning says: images are synthesized for `taylor`, which takes a minute
    or more; with other criteria, BatchNorms keep their statistics. For a detector no images are synthesized: its units
    are judged by magnitude.

    Raises RequestError for a share that cannot be reached, with the nearest that can, for data that does not fit the
    head, and for a model whose channel groups are not known.
    """
    asked = {"macs": macs, "params": params, "latency": latency}
    shares = {name: value for name, value in asked.items() if value is not None}
    if len(shares) != 1:
        raise RequestError("give one share to keep: of macs, of params, or of latency")
    ((measure, keep),) = shares.items()
    loaded = as_checkpoint(checkpoint)
    request = make_request(measure, keep, options).fitted(loaded.spec, data_free=data is None)
    for text in request.warnings(loaded.spec):
        warnings.warn(text, stacklevel=2)
    images = images_for(loaded, request, None if data is None else open_dataset(data, labeled=True), progress)
    return prune_network(loaded.model, loaded.spec, request, images, latency_table=latency_table, progress=progress)


def prune_network(
    model: nn.Module,
    spec: ModelSpec,
    request: Request,
    images: PruningImages | None,
    *,
    latency_table: Mapping[str, float] | None = None,
    progress: Progress = silent,
) -> Pruned:
    """`prune` for a network in memory, which stays as it is; without images BatchNorms keep their statistics.

    Gradients on few synthesized images can miss a cliff, so such a pruning competes with those by magnitude and at
    random: the one that recognizes most of the images is returned.
    """
    by_request = _prune(model, spec, request, images, latency_table, progress)
    if images is None or not request.data_free:
        return by_request
    found = [by_request]
    for other in (each for each in OTHERS if each != request.importance):
        asked = msgspec.structs.replace(request, importance=other)
        with suppress(RequestError):  # a share that it cannot reach
            found.append(_prune(model, spec, asked, images, latency_table, progress))
    return max(found, key=lambda each: recognized(each.model, images))  # of equals, the first


def _prune(
    model: nn.Module,
    spec: ModelSpec,
    request: Request,
    images: PruningImages | None,
    latency_table: Mapping[str, float] | None,
    progress: Progress,
) -> Pruned:
    if request.importance == "taylor" and images is None:
        raise RequestError("the importance taylor is measured on labeled images: give some, or another importance")
    if spec.tasks:
        raise RequestError(
            "a task stands on the very weights that it learned on, and pruning changes them: prune the base without "
            "tasks, then train each task on the pruned one, which takes minutes (`mobilevit train --base`)"
        )
    if not spec.num_queries:
        spec.require_scores("pruning", alone=True)
    original = Structure(model)
    whole = _budget(original, spec, request.measure, latency_table)
    pruned, pruned_spec = model, spec
    steps = request.steps if request.importance == "taylor" else 1  # the others hardly change with what is gone
    total = steps * len(images) if images else 1
    for step in range(1, steps + 1):
        structure = Structure(pruned) if step > 1 else original
        done = (step - 1) * (len(images) if images else 0)

        def judged(more: int, done: int = done) -> None:
            progress(Step("judging channels", done + more, total))

        importance = _judge(structure, request, images, judged)
        budget = _budget(structure, pruned_spec, request.measure, latency_table)
        target = whole.total * request.keep ** (step / steps)
        pruning = select(budget, importance, target, multiple=request.multiple, sizes=sizes_of(original))
        if budget.left > target and step == steps:
            raise RequestError(
                f"{request.keep:g} of the {request.measure} cannot be had with importance {request.importance} and "
                f"multiples of {request.multiple}: the nearest is {_up(budget.left / whole.total)}"
            )
        pruned, pruned_spec = cut(pruned, pruned_spec, pruning)
        if images is not None:
            measure_statistics(pruned, images)
    final = Structure(pruned)
    return Pruned(
        pruned,
        pruned_spec,
        parameters=(_total(original, spec, "params"), _total(final, pruned_spec, "params")),
        macs=(_total(original, spec, "macs"), _total(final, pruned_spec, "macs")),
        kept=kept_of(original, final),
        judged_by=request.importance,
    )


def _judge(
    structure: Structure, request: Request, images: PruningImages | None, report: Callable[[int], None]
) -> Importance:
    if request.importance == "magnitude":
        found = criteria.magnitude(structure)
    elif request.importance == "bn-scale":
        found = criteria.batch_norm_scale(structure)
    elif request.importance == "random":
        found = criteria.random(structure, request.seed)
    else:
        assert images is not None
        dtype = next(structure.model.parameters()).dtype
        found = criteria.taylor(structure, images.task.loss, images.batches(request.batch_size, dtype), report)
    return found if request.blocks else dataclasses.replace(found, blocks={})


def _budget(
    structure: Structure, spec: ModelSpec, measure: Measure, latency_table: Mapping[str, float] | None
) -> Budget:
    if measure == "params":
        return Budget(structure, parameter_rates(structure))
    rates = mac_rates(structure, spec.preprocessing.image_size)
    if measure == "latency":
        if latency_table is None:
            raise RequestError("a share of the latency needs a latency table (pruning.latency.measure_table)")
        rates = {name: rate * latency_table.get(name, 0.0) for name, rate in rates.items()}
    return Budget(structure, rates)


def _total(structure: Structure, spec: ModelSpec, measure: Measure) -> int:
    return round(_budget(structure, spec, measure, None).total)


def kept_of(before: Structure, after: Structure) -> tuple[Kept, ...]:
    """What is left of each kind of channel group in each stage, in the order of the network."""
    first, last = (_units(structure) for structure in (before, after))
    return tuple(Kept(stage, kind, count, last[stage, kind]) for (stage, kind), count in first.items())


def _units(structure: Structure) -> Counter[tuple[str, str]]:
    counts = Counter[tuple[str, str]]()
    for group in structure.groups:
        # EfficientViT's streams have parts that are not channels: outputs of heads that no other head reads.
        parts = group.scale if group.kind == "stream" else len(group.parts)
        counts[group.stage, group.kind] += group.size * parts
    return counts


def _up(share: float) -> float:
    """Rounded up to thousandths, so that this share can be asked for."""
    return -(-share * 1000 // 1) / 1000
