"""`run_in_child` for thousands of small calls: each in a process of its own, forked from one that did the imports.

    python -m warm_children        # the server's side; `Warm` starts it

What a first call imports, the server imports as well, and nothing else is ever done in it: no file is read there, and
no runtime is started. A call may take `MEMORY_BYTES` and `timeout` seconds; its process is killed with whatever it
hangs in.
"""

from __future__ import annotations

import importlib
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

from mobilevit_sdk.errors import MobileViTError, ToolchainError
from mobilevit_sdk.processes.process import describe_exit

MEMORY_BYTES = 8 << 30  # of data: what is mapped from files does not count


class Call(NamedTuple):
    """What the server is asked to do."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    timeout: float


class Warm:
    """A server of children. One call at a time; use as a context manager."""

    def __init__(self, threads: int = 1) -> None:
        numbers = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(threads))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "warm_children"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **numbers, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._lock = threading.Lock()
        self.peak_bytes = 0  # the largest that a call needed

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def call(self, function: Callable[..., Any], *args: Any, timeout: float = 60.0, **ignored: Any) -> Any:
        """As `run_in_child`, without events. Raises what the function raises, as that does, or ToolchainError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            pickle.dump(Call(function, args, timeout), self._process.stdin)
            self._process.stdin.flush()
            kind, value, peak = pickle.load(self._process.stdout)
        self.peak_bytes = max(self.peak_bytes, peak)
        if kind == "result":
            return value
        raise value if isinstance(value, MobileViTError) else ToolchainError(str(value))


def _serve() -> None:
    """The server's side: fork for each call."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    imported: set[str] = set()
    while True:
        try:
            call: Call = pickle.load(requests)
        except EOFError:
            return
        kind, value, peak, modules = _forked(call)
        for name in sorted(modules - imported):
            imported.add(name)
            with suppress(Exception):  # some cannot be imported by that name, and are not needed
                importlib.import_module(name)
        pickle.dump((kind, value, peak), answers)
        answers.flush()


def _forked(call: Call) -> tuple[str, Any, int, set[str]]:
    """What became of a call, the bytes that its process held, and the modules that it imported."""
    known = set(sys.modules)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _answer(call, os.fdopen(writing, "wb"), known)
    os.close(writing)
    content, deadline = bytearray(), time.monotonic() + call.timeout
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            return "error", f"no answer for {call.timeout:g} s", 0, set()
        if not (part := os.read(reading, 1 << 20)):
            break
        content += part
    os.close(reading)
    _, status, usage = os.wait4(child, 0)
    peak = 1024 * usage.ru_maxrss
    if code := os.waitstatus_to_exitcode(status):
        return "error", describe_exit(code), peak, set()
    kind, value, modules = pickle.loads(content)
    return kind, value, peak, modules


def _answer(call: Call, stream: BinaryIO, known: set[str]) -> None:
    """The child's side."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            answer = ("result", call.function(*call.args))
        except MobileViTError as error:
            answer = ("error", error)
        except Exception as error:
            answer = ("error", f"{type(error).__name__}: {' '.join(str(error).split())[:600]}")
        pickle.dump((*answer, set(sys.modules) - known), stream)
        stream.close()
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    import warm_children  # under its own name, which the pickles of calls have

    warm_children._serve()
