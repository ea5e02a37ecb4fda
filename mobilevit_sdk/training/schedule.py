"""How an epoch is cut into optimizer steps, and the random numbers of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.data.storage import MEMORY_BYTES, Storage
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.tasks.draws import image_seeds


@dataclass(frozen=True)
class OptimizerStep:
    """Rows [start, stop) of the epoch's permutation, at input size `size` in pixels."""

    index: int
    start: int
    stop: int
    size: int


def plan_epoch(recipe: Recipe, epoch: int, images: int, image_size: int, processes: int = 1) -> list[OptimizerStep]:
    """Cut epoch `epoch`, counted from 0, into steps; what is left over is skipped where BatchNorm needs more.

    It needs two images, and each of the `processes` two of its own. `images` is the number of training images,
    `image_size` the evaluation size in pixels.
    """
    generator = generator_for(recipe.seed, epoch, -2)
    steps: list[OptimizerStep] = []
    start = 0
    while start < images:
        sizes = recipe.sizes_at((epoch + start / images) / recipe.epochs, image_size)
        size = sizes[int(torch.randint(len(sizes), (), generator=generator))]
        stop = min(images, start + recipe.batch_size_at(size, image_size))
        if stop - start >= 2 * processes:
            steps.append(OptimizerStep(len(steps), start, stop, size))
        start = stop
    return steps


def share_of(batch: int, parts: int, index: int) -> torch.Tensor:
    """Which images of a batch are in part `index` of `parts`: int64, in increasing order.

    Image i and image batch - 1 - i, which mixup and cutmix make one of, are always in the same part, and in one that is
    turned around they change places: so a part is mixed as the whole batch would be. Parts are equal to two images.
    """
    pairs = range(index, -(-batch // 2), parts)
    return torch.tensor(sorted({*pairs, *(batch - 1 - place for place in pairs)}))


def shuffled_rows(recipe: Recipe, epoch: int, steps: Sequence[OptimizerStep], dataset: ImageDataset) -> torch.Tensor:
    """The order in which an epoch shows its images: int64 [images], cut into `steps`.

    Any order is as likely where images lie in memory or in files of their own. Those of a storage come block by block,
    shuffled: blocks in any order, dealt to as many lanes as the storage has; in each lane as many blocks as fit into
    its share of the memory are mixed; and a place in a batch belongs to a lane. Places i and B - 1 - i of a batch of B
    belong to one lane, as to one process, so that processes whose number divides that of the lanes read different
    blocks. The order does not depend on the number of processes.

    With `recipe.repeats`, each image that is shown at all comes so many times: in a row, so that they go to different
    processes, and from a storage within a lane, so that one process reads them.
    """
    generator = generator_for(recipe.seed, epoch, -1)
    if dataset.storage is None:
        return _repeated(torch.randperm(len(dataset), generator=generator), recipe)
    storage, random = dataset.storage, np.random.default_rng(generator.initial_seed())
    lanes = _lanes(storage, min(storage.lanes, recipe.batch_size // 2), random)
    places = np.concatenate([np.minimum(at := np.arange(step.stop - step.start), at[::-1]) for step in steps])
    lane_of = places % len(lanes)
    wanted = np.bincount(lane_of, minlength=len(lanes))
    spare = np.concatenate([lane[count:] for lane, count in zip(lanes, wanted, strict=True)])
    order = np.empty(len(places), np.int64)
    for lane, (rows, count) in enumerate(zip(lanes, wanted, strict=True)):
        missing = max(0, count - len(rows))  # the end of another lane, which has blocks to spare
        order[lane_of == lane] = _repeated(np.concatenate([rows[:count], spare[:missing]]), recipe)
        spare = spare[missing:]
    return torch.from_numpy(order)


def _repeated(rows: Any, recipe: Recipe) -> Any:
    """Repeated augmentation (Hoffer et al., arXiv 1901.09335): as many rows, of which each comes `repeats` times."""
    return rows[np.arange(len(rows)) // recipe.repeats * recipe.repeats]


def epoch_seeds(recipe: Recipe, epoch: int, rows: torch.Tensor) -> torch.Tensor:
    """The seeds of the images of an epoch, `rows` in its order: int64 [images]."""
    if recipe.repeats == 1:
        return image_seeds(recipe.seed, epoch, rows)
    together = rows.argsort(stable=True)
    starts = torch.searchsorted(rows[together].contiguous(), rows)  # of the row's group
    place = torch.empty_like(rows)
    place[together] = torch.arange(len(rows))
    return image_seeds(recipe.seed, epoch, rows, place - starts)


def _lanes(storage: Storage, most: int, random: np.random.Generator) -> list[np.ndarray]:
    """The images of each lane, in its own order: of the highest power of two up to `most`.

    The first window of each lane is shorter than those of the lane before it, so that not all lanes start their next
    one, and read, at the same time.
    """
    by_block = np.argsort(storage.blocks, kind="stable")
    blocks, starts = np.unique(storage.blocks[by_block], return_index=True)
    images = dict(zip(blocks.tolist(), np.split(by_block, starts[1:]), strict=True))
    shuffled, count = random.permutation(blocks), 1 << most.bit_length() - 1
    room = MEMORY_BYTES / 2 / count  # the rest is for the next window
    lanes = []
    for lane in range(count):
        windows: list[list[int]] = [[]]
        left = room * (lane + 1) / count
        for block in shuffled[lane::count].tolist():
            size = int(storage.block_bytes[block])
            if windows[-1] and size > left:
                windows.append([])
                left = room
            windows[-1].append(block)
            left -= size
        lanes.append(
            np.concatenate(
                [
                    np.empty(0, np.int64),
                    *(
                        random.permutation(np.concatenate([images[block] for block in window]))
                        for window in windows
                        if window
                    ),
                ]
            )
        )
    return lanes


def generator_for(seed: int, epoch: int, step: int, stream: int = 0) -> torch.Generator:
    """Random numbers that depend on the seed, the epoch and the step only: a resumed training draws the same.

    Steps count from 0; -1 and -2 are those of the order and of the plan of an epoch. A step has several streams.
    """
    words = np.random.SeedSequence((seed, epoch, step + 2, stream)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> 1))
