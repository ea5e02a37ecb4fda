"""An operating-system process: how long it may take, how it ended, what it said last, how much memory it had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


class Watch:
    """Kills `process` when the block takes longer than `timeout` seconds; `fired` then says so.

    Without a timeout it does nothing. It can be entered again, one block after another.
    """

    def __init__(self, process: subprocess.Popen[bytes], timeout: float | None) -> None:
        self.fired = False
        self._process = process
        self._timeout = timeout
        self._timer: threading.Timer | None = None

    def __enter__(self) -> None:
        if self._timeout is not None:
            self._timer = threading.Timer(self._timeout, self._fire)
            self._timer.daemon = True
            self._timer.start()

    def __exit__(self, *raised: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self) -> None:
        self.fired = True
        self._process.kill()


def describe_exit(code: int) -> str:
    """In words; a negative `code` is that of a signal."""
    if code < 0:
        return f"the process died of {signal.Signals(-code).name}"
    return f"the process ended early with exit code {code}"


def stderr_tail(log: BinaryIO) -> str:
    """The last line that a process has written to `log`, after a colon; empty where there is none."""
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 4096))
    lines = log.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1].strip()[:300]}" if lines else ""


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident, in bytes.

    Read from /proc where there is one: on Linux, a child inherits `ru_maxrss` from its parent.
    """
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
