"""How long-running work reports where it stands: one event, and one kind of callable that receives it.

Whatever runs long takes `progress: Progress = silent` and calls it with a Step now and then. A producer with more to
tell subclasses Step and adds fields, all by keyword; whoever listens can then take them from there. Steps can be
pickled: work in a child process passes `processes.child.emit` as its `progress`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Step:
    """A piece of work has reached a stage, or got further within one.

    `stage` says in two or three words what is being done; `done` of `total` items of it are, where they are counted.
    `detail` is what else a person would like to read, such as a rate. `task` tells apart what runs side by side.
    """

    stage: str
    done: int = 0
    total: int | None = None  # None: not counted
    _: KW_ONLY
    detail: str = ""
    task: str = ""
    status: Literal["waiting", "running", "done", "failed"] = "running"  # of the task; it stops with the last two


class Progress(Protocol):
    """Receives the steps of some work; called from several threads where the work runs in several."""

    def __call__(self, step: Step, /) -> None: ...


def silent(step: Step, /) -> None:
    """A Progress that ignores every step: the default."""


# What producers that do not send steps yet call with the stage, how much of it is done, and of how much.
Report = Callable[[str, int, int], None]
