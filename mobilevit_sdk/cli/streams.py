"""Standard output and standard error to which a command can always write, whatever became of the other end."""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

from mobilevit_sdk.errors import RequestError


def open_standard_streams() -> None:
    """Make of this process's standard streams what a command expects of them.

    A character that their encoding lacks is written as `?`. A reader that has left (`| head`) ends nothing: the rest is
    dropped. A closed stream is /dev/null, also for libraries that write to the descriptor, so that no file which is
    opened later takes its number. A full disk behind standard output raises RequestError; behind standard error it
    costs nothing but messages. Streams that something else has put in their place stay as they are.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest free one: a standard stream that is closed
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _open(sys.stdout, 1, "standard output")
    if sys.stderr is sys.__stderr__:
        sys.stderr = _open(sys.stderr, 2, None)


def _open(stream: TextIO | None, descriptor: int, name: str | None) -> TextIO:
    if stream is not None:
        with suppress(OSError):
            stream.flush()  # what the program wrote before comes first
    raw = _Descriptor(descriptor, name)
    encoding = stream.encoding if stream is not None else "utf-8"
    by_line = name is None or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="replace", line_buffering=by_line)


class _Descriptor(io.FileIO):
    """A descriptor that swallows what it cannot write; the first failure of one with a name raises RequestError."""

    def __init__(self, descriptor: int, name: str | None) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._name = name
        self._lost = False

    def write(self, data: Any) -> int:
        """Write some of the bytes, waiting where the descriptor does not block; their number."""
        if self._lost:
            return memoryview(data).nbytes
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])
            return written
        except OSError as error:
            self._lost = True
            if self._name is not None and not isinstance(error, BrokenPipeError):
                raise RequestError(f"cannot write to {self._name}: {error.strerror or error}") from error
            return memoryview(data).nbytes
