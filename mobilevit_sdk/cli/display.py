"""Progress of one long piece of work: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

PLAIN_LINE_EVERY_SECONDS = 30.0


class Display:
    """A context manager; everything goes to `console`, which is standard error."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan"),
            TaskProgressColumn(style="cyan"),
            TextColumn("{task.fields[detail]}"),
            console=console,
            expand=True,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=None, detail="", visible=False)
        self.last_line = time.monotonic()

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()

    def update(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Show how far the work is; `what` names it in two or three words."""
        if not self.bar.disable:
            self.bar.update(self.task, description=what, completed=done, total=total, detail=detail, visible=True)
        elif time.monotonic() - self.last_line >= PLAIN_LINE_EVERY_SECONDS:
            self.line(f"{what}: {done / total:.0%}{' · ' if detail else ''}{detail}")

    def line(self, text: str | Text) -> None:
        """Write a line that stays, above the bar."""
        self.console.print(text, markup=False)
        self.last_line = time.monotonic()
