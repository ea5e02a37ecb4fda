"""The display of conversions that run side by side: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mobilevit_sdk.cli.display import PLAIN_LINE_EVERY_SECONDS
from mobilevit_sdk.conversion.pipeline import ConvertProgress

_ENDED = {"done": "green", "up to date": "green", "rejected": "bold red", "failed": "bold red"}


class ConversionDisplay:
    """Shows each conversion's stage and its seconds; give `update` to `mobilevit_sdk.conversion.pipeline.convert`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[tuple[str, str], ConvertProgress] = {}
        self._spinner = Spinner("dots")
        self._started = time.monotonic()
        self._before, self._next_line = "", 0.0
        self._live = (
            Live(console=console, refresh_per_second=8, get_renderable=self._render) if console.is_terminal else None
        )

    def __enter__(self) -> ConversionDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, progress: ConvertProgress) -> None:
        """A conversion has reached another stage; called from several threads."""
        self._rows[progress.format, progress.precision] = progress
        if self._live is None and progress.stage != "waiting":
            self._console.print(
                f"{progress.seconds:7.1f} s  {progress.format} {progress.precision}: {progress.stage}", markup=False
            )

    def calibrating(self, what: str, done: int, total: int) -> None:
        """Images are being made or read, before any conversion begins."""
        self._before = f"{what}: {done / total:.0%}" if done < total else ""
        now = time.monotonic() - self._started
        if self._live is None and now >= self._next_line:
            self._next_line = now + PLAIN_LINE_EVERY_SECONDS
            self._console.print(f"{now:7.1f} s  {what}: {done / total:.0%}", markup=False)

    def _render(self) -> RenderableType:
        if self._before:
            return Text(self._before, style="cyan")
        table = Table.grid(padding=(0, 2))
        now = time.monotonic() - self._started
        for row in list(self._rows.values()):
            style = _ENDED.get(row.stage)
            mark: RenderableType = (
                Text("✗" if row.stage in ("failed", "rejected") else "✓", style=style) if style else self._spinner
            )
            seconds = row.seconds if style else now
            table.add_row(mark, row.format, row.precision, Text(row.stage, style=style or "cyan"), f"{seconds:.0f} s")
        return table
