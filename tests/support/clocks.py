"""Time for tests: it passes when a process says so, and no test waits for a clock."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path


class Timers:
    """Stands for `threading.Timer`: all that wait run out together, once somebody calls `stall(pipe)`.

    `seconds` has what each timer was told, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.pipe = folder / "stall"
        self.seconds: list[float] = []
        os.mkfifo(self.pipe)

    def __call__(self, seconds: float, fire: Callable[[], None]) -> _Timer:
        self.seconds.append(seconds)
        return _Timer(self.pipe, fire)


class _Timer(threading.Thread):
    def __init__(self, pipe: Path, fire: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._pipe, self._fire, self._cancelled = pipe, fire, False

    def run(self) -> None:
        self._pipe.read_bytes()  # until somebody has opened it to write
        if not self._cancelled:
            self._fire()

    def cancel(self) -> None:
        self._cancelled = True


def stall(pipe: Path) -> None:
    """In a child: let every timer run out, also one that starts only now, until this process is ended."""
    signal.alarm(1800)
    while True:
        Path(pipe).open("w").close()  # waits for a timer that reads


def stay() -> None:
    """Until somebody ends this process; half an hour at most, so that a failed test leaves nothing behind."""
    signal.alarm(1800)
    signal.pause()
