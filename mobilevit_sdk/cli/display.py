"""The display of every command's progress: live rows on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import importlib
import time
from dataclasses import replace
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import TaskID
from rich.text import Text

from mobilevit_sdk.cli.rows import Rows
from mobilevit_sdk.progress import Step

MIN_SECONDS_FOR_A_RATE = 2.0  # before a stage's rate says how long the rest takes
PLAIN_LINE_EVERY_SECONDS = 30.0  # of what is counted; a stage that is not counted has one line, when it begins


class Display:
    """A context manager that is a `mobilevit_sdk.progress.Progress`; all output goes to `console`, standard error.

    On a terminal, each task has a row: its stage, and a bar where the stage is counted. A counted stage that is
    complete disappears. Elsewhere there are no rows; lines begin with the seconds since the start.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows = Rows(console)
        self._row_of: dict[str, TaskID] = {}
        self._stage_of: dict[str, str] = {}
        self._began: dict[str, tuple[Step, float]] = {}  # each task's stage: its first step, and when that came
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> Display:
        self._rows.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._rows.stop()

    def __call__(self, step: Step, /) -> None:
        """Show a step; called from several threads."""
        step = self._with_counts(step)
        if self._rows.disable:
            self._write(step)
        else:
            self._show(step)

    def line(self, text: str | Text) -> None:
        """Write a line that stays, above the rows."""
        self._console.print(text, markup=False)
        self._last_line = time.monotonic()

    def _with_counts(self, step: Step) -> Step:
        """The step with its counts and the time left in its stage, where it is counted and has no detail of its own."""
        now = time.monotonic()
        first, began = self._began.get(step.task, (step, now))
        if first.stage != step.stage or step.done < first.done:
            first, began = step, now
        self._began[step.task] = (first, began)
        if step.detail or not step.total:
            return step
        detail, done = f"{step.done} of {step.total}", step.done - first.done
        if done > 0 and now - began >= MIN_SECONDS_FOR_A_RATE:
            left = (step.total - step.done) * (now - began) / done
            detail += f" · {timedelta(seconds=round(left))} left"
        return replace(step, detail=detail)

    def _show(self, step: Step) -> None:
        if step.task not in self._row_of:
            self._row_of[step.task] = self._rows.add_task("", visible=False, share="", detail="", step=step)
        ended = step.status in ("done", "failed")
        self._rows.update(
            self._row_of[step.task],
            description=f"{step.task}  {step.stage}" if step.task else step.stage,
            completed=1 if ended else step.done,
            total=1 if ended else step.total,  # rich stops the clock of a row that is complete
            visible=ended or step.total is None or step.done < step.total,
            share=_share(step),
            detail=step.detail,
            step=step,
        )

    def _write(self, step: Step) -> None:
        now = time.monotonic()
        if step.total is None:
            due = step.status != "waiting" and self._stage_of.get(step.task) != step.stage
        else:
            due = now - self._last_line >= PLAIN_LINE_EVERY_SECONDS
        self._stage_of[step.task] = step.stage
        if due:
            what = ": ".join(filter(None, (step.task, step.stage, _share(step))))
            self.line(f"{now - self._started:7.1f} s  {what}{' · ' if step.detail else ''}{step.detail}")


def _share(step: Step) -> str:
    return f"{step.done / step.total:.0%}" if step.total else ""


def import_torch(console: Console) -> None:
    """Import PyTorch, which takes seconds; a terminal shows that something happens."""
    with console.status("importing PyTorch"):
        importlib.import_module("torch")
