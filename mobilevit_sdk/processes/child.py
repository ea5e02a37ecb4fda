"""Work in a process of its own: toolchains that print, leak or clash, and native parsers that can crash, stay there.

The parent calls `run_in_child`; what runs in the child may call `emit` and `ask`. Requests and answers are pickles on
the child's standard input and on what was its standard output: ("event", value), ("question", value), and one
("result", value) or ("error", reason) at the end.
"""

from __future__ import annotations

import errno
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar

from mobilevit_sdk.errors import MobileViTError, RequestError, ToolchainError
from mobilevit_sdk.files import full_disk
from mobilevit_sdk.processes.process import Watch, describe_exit, stderr_tail

T = TypeVar("T")

# Errors of the file system that are not the fault of what runs in the child, beside a full disk.
_CANNOT_WRITE = {errno.EFBIG, errno.EACCES, errno.EROFS}

_events: BinaryIO | None = None
_answers: queue.SimpleQueue[Any] = queue.SimpleQueue()


def run_in_child(
    function: Callable[..., T],
    *args: Any,
    on_event: Callable[[Any], None] = lambda event: None,
    on_question: Callable[[Any], Any] = lambda question: None,
    threads: int = 0,
    spin: bool = False,
    timeout: float | None = None,
) -> T:
    """Call a module-level `function` in a fresh Python process and return what it returns.

    What the child passes to `emit` reaches `on_event` in this process; what it passes to `ask` reaches `on_question`,
    whose answer goes back while the child waits. `threads` limits the threads that the child computes with; 0 leaves
    them to it. The child ends with this process, however this one ends.

    OpenMP's threads sleep while they wait for one another. With `spin` they wait as the runtime chooses, which is
    faster on an idle machine, so timings want it; on a busy one they burn many times the CPU time of the work.

    Errors of this SDK are raised here as they were raised there. Raises ToolchainError, with the last line that the
    child has printed, when the child raises anything else, dies, or sends nothing for `timeout` seconds.
    """
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if spin:
        environment.pop("OMP_WAIT_POLICY", None)
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


def emit(event: Any) -> None:
    """In the child: send `event` to the parent's `on_event`. In any other process it is dropped."""
    if _events is not None:
        pickle.dump(("event", event), _events)
        _events.flush()


def ask(question: Any) -> Any:
    """In the child: send `question` to the parent's `on_question` and wait for its answer."""
    assert _events is not None, "only a child has a parent to ask"
    pickle.dump(("question", question), _events)
    _events.flush()
    return _answers.get()


def _listen(stdin: BinaryIO) -> None:
    """Pass on the parent's answers until the stream ends; then the parent is gone, and this process ends too."""
    try:
        while True:
            _answers.put(pickle.load(stdin))
    finally:
        os._exit(1)


def _main() -> None:
    """The child's side: read one request, send events and questions, then one answer."""
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
        full = full_disk(error)
        if full or (isinstance(error, OSError) and error.errno in _CANNOT_WRITE):
            name, reason = getattr(error, "filename", None) or "a file", full or getattr(error, "strerror", None)
            answer = ("error", RequestError(f"cannot write {name}: {reason}"))
        else:
            answer = ("error", f"{type(error).__name__}: {' '.join(str(error).split())[:600]}")
    pickle.dump(answer, _events)
    _events.flush()
    os._exit(0)  # native libraries may hang or crash while they shut down


if __name__ == "__main__":
    # Under its own name, so that `emit` called by the function is this module's.
    from mobilevit_sdk.processes import child

    child._main()
