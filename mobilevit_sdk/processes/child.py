"""Work in a process of its own: toolchains that print, leak or clash, and native parsers that can crash, stay there."""

from __future__ import annotations

import errno
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from mobilevit_sdk.errors import MobileViTError, RequestError, ToolchainError

T = TypeVar("T")

# Not the fault of what runs in the child: no space, no permission.
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS}

_events: BinaryIO | None = None
_answers: queue.SimpleQueue[Any] = queue.SimpleQueue()


def run_in_child(
    function: Callable[..., T],
    *args: Any,
    on_event: Callable[[Any], None] = lambda event: None,
    on_question: Callable[[Any], Any] = lambda question: None,
    threads: int = 0,
    timeout: float | None = None,
) -> T:
    """Call a module-level `function` in a fresh Python process and return what it returns.

    What the child passes to `emit` reaches `on_event` in this process; what it passes to `ask` reaches `on_question`,
    whose answer goes back while the child waits. Errors of this SDK are raised here as they were there. Raises
    ToolchainError when the child raises anything else or dies, with its last words. The child ends with this process,
    however this one ends. `threads` limits the child's computation where it is not 0. A child that says nothing for
    `timeout` seconds is stopped, which is a ToolchainError too.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if threads:
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(threads))
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mobilevit_sdk.processes.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        watch = Watch(process, timeout)
        try:
            pickle.dump((function, args), process.stdin)
            process.stdin.flush()  # and stays open: its end tells the child that this process is gone
            while True:
                with watch:
                    kind, value = pickle.load(process.stdout)
                if kind == "event":
                    on_event(value)
                elif kind == "question":
                    pickle.dump(on_question(value), process.stdin)
                    process.stdin.flush()
                elif kind == "result":
                    result: T = value
                    return result
                elif isinstance(value, MobileViTError):
                    raise value
                else:
                    raise ToolchainError(str(value))
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            process.wait()
            end = f"no answer for {timeout:g} s" if watch.fired else describe_exit(process.returncode)
            raise ToolchainError(f"{end}{stderr_tail(log)}") from None
        finally:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):  # an answer that the child did not live to read
                process.stdin.close()
            process.stdout.close()


class Watch:
    """Kills the process when what is within the context takes longer than `timeout` seconds; `fired` says so."""

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


def emit(event: Any) -> None:
    """Send `event` to the parent's `on_event`; without a parent it goes nowhere."""
    if _events is not None:
        pickle.dump(("event", event), _events)
        _events.flush()


def ask(question: Any) -> Any:
    """In the child: send `question` to the parent's `on_question` and wait for its answer."""
    assert _events is not None, "only a child has somebody to ask"
    pickle.dump(("question", question), _events)
    _events.flush()
    return _answers.get()


def describe_exit(code: int) -> str:
    if code < 0:
        return f"the process died of {signal.Signals(-code).name}"
    return f"the process ended early with exit code {code}"


def stderr_tail(log: BinaryIO) -> str:
    """The last line that a child has written, for an error of one line."""
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 4096))
    lines = log.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1].strip()[:300]}" if lines else ""


def _listen(stdin: BinaryIO) -> None:
    """Hand on the parent's answers, and end with it: its end is the end of the stream."""
    try:
        while True:
            _answers.put(pickle.load(stdin))
    finally:
        os._exit(1)


def _main() -> None:
    """The child: one request on standard input, events and one answer on what was standard output."""
    global _events
    _events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a toolchain prints goes to the log
    stdin = os.fdopen(os.dup(0), "rb")
    function, args = pickle.load(stdin)
    threading.Thread(target=_listen, args=(stdin,), daemon=True).start()
    try:
        answer = ("result", function(*args))
    except MobileViTError as error:
        answer = ("error", error)
    except Exception as error:
        import traceback

        with suppress(OSError):  # the log may lie on the full disk
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            answer = ("error", RequestError(f"cannot write {error.filename or 'a file'}: {error.strerror}"))
        else:
            answer = ("error", f"{type(error).__name__}: {' '.join(str(error).split())[:600]}")
    pickle.dump(answer, _events)
    _events.flush()
    os._exit(0)  # native libraries may hang or crash while they shut down


if __name__ == "__main__":
    # Under its own name, so that `emit` called by the function is this module's.
    from mobilevit_sdk.processes import child

    child._main()


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident, in bytes.

    Not `ru_maxrss` where Linux tells otherwise: a child inherits it from whoever started it.
    """
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
