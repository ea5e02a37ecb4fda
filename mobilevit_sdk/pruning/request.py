"""The request for a pruning, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.spec import ModelSpec, Strict

Measure = Literal["macs", "params", "latency"]
Criterion = Literal["taylor", "magnitude", "bn-scale", "random"]
CRITERIA: tuple[Criterion, ...] = ("taylor", "magnitude", "bn-scale", "random")


class Request(Strict, frozen=True):
    """How much is to be left of what, and how units are chosen; a pruned checkpoint's header records it.

    `keep` is the share of multiply-accumulates (`macs`), parameters (`params`) or microseconds by a table (`latency`).
    Units are removed in `steps`, each with new importances from the gradients of `samples` images in batches of
    `batch_size`. Tensors keep multiples of `multiple` channels. With `blocks`, whole blocks may go too.

    `data_free` says that there are no training images. For `taylor`, some are then synthesized from the network, unless
    it is a detector; the other criteria do without, and BatchNorms keep the statistics of the unpruned network.
    """

    measure: Measure = "macs"
    keep: float = 0.7
    importance: Criterion = "taylor"
    steps: int = 5
    samples: int = 1024
    batch_size: int = 16
    multiple: int = 8
    blocks: bool = True
    seed: int = 0
    data_free: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise RequestError(f"`{self.measure}` takes the share to keep, between 0 and 1, not {self.keep:g}")
        for name in ("steps", "samples", "batch_size", "multiple"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} must be 1 or more, not {getattr(self, name)}")

    def fitted(self, spec: ModelSpec, *, data_free: bool) -> Request:
        """The request as it is carried out on this network, with training images or without any."""
        by = "magnitude" if data_free and spec.num_queries and self.importance == "taylor" else self.importance
        return msgspec.structs.replace(self, importance=by, data_free=data_free)

    def warnings(self, spec: ModelSpec) -> tuple[str, ...]:
        """What a pruning of this network without training images loses."""
        if not self.data_free:
            return ()
        if spec.num_queries:
            return (
                f"without training images, units are judged by {self.importance}, for none are synthesized for a "
                "detector: that usually destroys it; give `data`, or train the result",
            )
        if self.importance == "taylor":
            return (
                "without training images, units were judged and BatchNorm statistics measured on images synthesized "
                "from the network: that costs accuracy; give `data`, or fine-tune the result",
            )
        return (
            f"without training images, {self.importance} usually destroys a network: BatchNorm statistics are still "
            "those of the unpruned one; give `data`, or leave out `importance`",
        )


def make_request(measure: str, keep: float, options: Mapping[str, object]) -> Request:
    """The request with these options and defaults for the others. Raises RequestError for options that do not fit."""
    try:
        return msgspec.convert({"measure": measure, "keep": keep, **options}, Request)
    except msgspec.ValidationError as error:
        raise RequestError(f"this is not a request for a pruning: {error}") from error
