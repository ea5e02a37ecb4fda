"""The processes that train one network together, one for each device, as torchrun starts them; often there is one.

Hugging Face Accelerate joins them: gloo carries what they exchange between CPUs, nccl between GPUs.
"""

from __future__ import annotations

import atexit
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.processes.launched import GRACE_SECONDS, rank, watch, world_size
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.training.synchronized_norm import Shares, synchronize_norms

T = TypeVar("T")
_GOES_ON = "the same command goes on from the state that was saved last"


def check_batches(recipe: Recipe, image_size: int | None = None) -> None:
    """Raises RequestError where a step has too few images for all processes: two each, since BatchNorm needs two.

    `image_size`, where it is known already, is the evaluation size in pixels.
    """
    parts = world_size() * recipe.accumulation
    sizes = {*recipe.sizes, image_size} if image_size else set()
    fewest = min((recipe.batch_size_at(each, image_size) for each in sizes if each and image_size), default=None)
    if (fewest or recipe.batch_size) < 2 * parts:
        what = f"{world_size()} processes" if recipe.accumulation == 1 else f"{parts} parts (processes x accumulation)"
        raise RequestError(
            f"a step of {fewest or recipe.batch_size} images is too small for {what}, which take two each: raise "
            f"`batch_size`"
        )


@contextmanager
def connected() -> Iterator[None]:
    """Raises RequestError where another process of the training ends, unless the launcher ends this one first."""
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not (isinstance(error, dist.DistBackendError) or "onnection" in str(error)):
            raise
        time.sleep(GRACE_SECONDS)
        raise RequestError(f"rank {rank()} lost another process, whose own words say why; {_GOES_ON}") from error


class World:
    """This process among those of a training: `rank` of `size`, with a `device` of its own.

    Alone, every method does nothing but hand back what it was given. Whatever exchanges something is called by all
    processes, in the same order.
    """

    def __init__(self, device: torch.device) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs

        if world_size() > 1 and device.type == "mps":
            raise RequestError("several processes train on cpu or cuda, not on mps: give another `device`")
        # Statistics are equal on all processes already. Without unused parameters to find, the buckets of gradients
        # would be arranged anew after the first step, and a resumed training round otherwise.
        how = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
        alone = world_size() == 1
        self.accelerator = Accelerator(cpu=alone or device.type == "cpu", device_placement=False, kwargs_handlers=[how])
        self.size, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.shares = Shares(self.size, self.rank)  # of the images that are computed next
        self.device = device if alone or device.type == "cpu" else self.accelerator.device  # a GPU of its own
        if not alone:
            host = socket.gethostname()
            known = self.gather([(host, os.getpid())])
            beside = {number: each[0][1] for number, each in enumerate(known) if each[0][0] == host}
            _watch_once(tuple((number, process) for number, process in beside.items() if number != self.rank), host)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def join(self, model: nn.Module) -> nn.Module:
        """Make the gradients of `model` the means over all processes, and its BatchNorms see all images."""
        if self.size == 1:
            return model
        synchronize_norms(model, self.shares)
        # Of an argument by its new name, which Accelerate does not know yet; and of kernels whose channels come last.
        for message in ("`broadcast_buffers` is deprecated", "Grad strides do not match bucket view strides"):
            warnings.filterwarnings("ignore", message)
        return cast("nn.Module", self.accelerator.prepare_model(model))

    def gathering(self, model: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around the forward and backward pass of a part of a step, of which the `last` exchanges the gradients."""
        return nullcontext() if last else self.accelerator.no_sync(model)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Of each value over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        return cast("Tensor", self.accelerator.reduce(total, "sum")).tolist()

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` returns in the first process, in which alone it runs."""
        if self.size == 1:
            return make()
        found = [make() if self.is_first else None]
        dist.broadcast_object_list(found, device=self.device)
        return cast("T", found[0])

    def gather(self, found: Sequence[T]) -> list[Sequence[T]]:
        """What every process found, in the order of their ranks."""
        if self.size == 1:
            return [found]
        every: list[Sequence[T]] = [()] * self.size
        dist.all_gather_object(every, found)
        return every


@cache
def _watch_once(others: tuple[tuple[int, int], ...], host: str) -> None:
    """For all trainings of this process."""
    atexit.register(dist.destroy_process_group)
    watch(dict(others), host, _GOES_ON)
