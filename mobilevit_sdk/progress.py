"""How long-running work reports its progress: one event, and one kind of callable that receives it.

Functions that run long take `progress: Progress = silent` and call it with a Step now and then. A producer with more to
report subclasses Step and adds keyword-only fields, for receivers that know them. Steps can be pickled: work in a child
process passes `processes.child.emit` as its `progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Literal, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A task has reached a stage, or got further within one.

    `stage` names in two or three words what is being done; where it is counted, `done` of `total` items are finished.
    `detail` is more to read, such as a rate. `task` distinguishes work that runs side by side.
    """

    stage: str
    done: int = 0
    total: int | None = None  # None: not counted
    _: KW_ONLY
    detail: str = ""
    task: str = ""
    status: Literal["waiting", "running", "done", "failed"] = "running"  # of the task; the last two end it


class Progress(Protocol):
    """Receives the steps of some work; called from several threads where the work runs in several."""

    def __call__(self, step: Step, /) -> None: ...


def silent(step: Step, /) -> None:
    """A Progress that ignores every step: the default."""


def counted(items: Collection[T], stage: str, progress: Progress) -> Iterator[T]:
    """Yield `items`, and tell `progress` how many of them the consumer is done with."""
    progress(Step(stage, 0, len(items)))
    for done, item in enumerate(items, start=1):
        yield item
        progress(Step(stage, done, len(items)))


def summed(stage: str, task: str, progress: Progress) -> Callable[[Step], None]:
    """A Progress for work whose tasks run side by side: their counts reach `progress` added up, as one `stage`."""
    latest: dict[str, Step] = {}

    def tell(step: Step) -> None:
        latest[step.task] = step
        total = sum(each.total or 0 for each in latest.values())
        progress(Step(stage, sum(each.done for each in latest.values()), total or None, task=task))

    return tell
