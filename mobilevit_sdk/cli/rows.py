"""The live rows of a Display. What a row has no room for stands beneath it or is left out: never its task or stage."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import Progress, Task
from rich.spinner import Spinner
from rich.text import Text

MIN_BAR, MAX_BAR = 8, 40  # columns; a bar with less room is left out
_SHARE = 5  # columns of " 100%"
_MARKS = {"waiting": ("·", "dim"), "done": ("✓", "green"), "failed": ("✗", "bold red")}


class Rows(Progress):
    """A row for each visible task: mark, task and stage, bar, share, clock, detail.

    The fields of a task are `step`, its last one, `share`, in percent, and `detail`.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, transient=True, disable=not console.is_terminal)
        self._spinner = Spinner("dots")

    def get_renderables(self) -> Iterable[RenderableType]:
        """The rows as one text, whose lines are those of the terminal."""
        tasks = [task for task in self.tasks if task.visible]
        if not tasks:
            return
        width, name = self.console.width, max(len(task.description) for task in tasks)
        clock = max(len(_clock(task)) for task in tasks) + 2
        taken = 2 + name + _SHARE + clock
        room = width - taken - 3  # of bar and detail
        beside = [length for task in tasks if (length := len(task.fields["detail"])) <= room - MIN_BAR]
        bar = min(room - max(beside), MAX_BAR) if beside else 0
        rows = Text(no_wrap=True, overflow="ellipsis")
        for number, task in enumerate(tasks):
            line = Text.assemble(self._mark(task), " ", (task.description.ljust(name), "bold"))
            if bar:
                line.append(" ").append(_bar(task, bar))
            if 2 + name + _SHARE <= width:
                line.append(task.fields["share"].rjust(_SHARE), "cyan")
            if taken <= width:
                line.append(_clock(task).rjust(clock))
            detail = task.fields["detail"]
            rows.append("\n" if number else "").append(line)
            if detail:
                rows.append(f"  {detail}" if line.cell_len + 2 + len(detail) <= width else f"\n    {detail}")
        yield rows

    def _mark(self, task: Task) -> Text:
        mark = _MARKS.get(task.fields["step"].status)
        if mark:
            return Text(*mark)
        frame = self._spinner.render(self.get_time())
        return frame if isinstance(frame, Text) else Text(str(frame))


def _bar(task: Task, width: int) -> Text:
    """Empty where nothing is counted."""
    step = task.fields["step"]
    if step.total is None:
        return Text(" " * width)
    done = round(width * step.done / step.total) if step.total else width
    return Text.assemble(("━" * done, "cyan"), ("━" * (width - done), "bar.back"))


def _clock(task: Task) -> str:
    seconds = task.finished_time if task.finished else task.elapsed
    return str(timedelta(seconds=int(seconds or 0)))
