"""One candidate in a process of its own, which computes when it is its turn and sleeps otherwise."""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mobilevit_sdk.errors import MobileViTError, ToolchainError
from mobilevit_sdk.formats.runtime import Session
from mobilevit_sdk.processes.child import ask, run_in_child

WARM_UP_SECONDS = 0.5  # at the start, and at least three inferences
UNTIMED = 2  # inferences at the start of each turn, which wake threads and refill caches


class Worker:
    """`open_session(threads)` is called in the child; the session then answers `image`, again and again."""

    def __init__(self, open_session: Callable[[int], Session], threads: int, image: np.ndarray) -> None:
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._commands: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(open_session, threads, image), daemon=True)
        self._thread.start()

    def scores(self) -> np.ndarray:
        """Wait until the candidate is warm, and return its answer. Raises MobileViTError when it fails or dies."""
        answer: np.ndarray = self._next()
        return answer

    def turn(self, inferences: int) -> list[float]:
        """Let it compute, and return the seconds of each inference. Raises MobileViTError when it fails or has died."""
        self._commands.put(inferences)
        seconds: list[float] = self._next()
        return seconds

    def stop(self) -> None:
        """Ask the process to end after what it is doing; `join` waits for it."""
        self._commands.put(0)

    def join(self) -> None:
        self._thread.join()

    def _next(self) -> Any:
        event = self._events.get()
        if isinstance(event, MobileViTError):
            raise event
        return event

    def _run(self, open_session: Callable[[int], Session], threads: int, image: np.ndarray) -> None:
        try:
            run_in_child(serve, open_session, threads, image, on_question=self._hand_over, threads=threads, spin=True)
        except MobileViTError as error:
            self._events.put(error)
        except Exception as error:  # otherwise the caller would wait for an event forever
            self._events.put(ToolchainError(f"{type(error).__name__}: {error}"))

    def _hand_over(self, event: Any) -> int:
        self._events.put(event)
        return self._commands.get()


def serve(open_session: Callable[[int], Session], threads: int, image: np.ndarray) -> None:
    """In the child: load, warm up, send the scores, then time as many inferences as the parent asks for, until 0."""
    session = open_session(threads)
    given = session.to_input(image)
    inferences = ask(_warm_up(session, given))
    gc.disable()
    while inferences:
        for _ in range(UNTIMED):
            session.run(given)
        seconds = []
        for _ in range(inferences):
            started = time.perf_counter()
            session.run(given)
            seconds.append(time.perf_counter() - started)
        inferences = ask(seconds)


def _warm_up(session: Session, given: Any) -> np.ndarray:
    scores = np.array(session.run(given), dtype=np.float32)  # compiles, where something is compiled
    started, count = time.perf_counter(), 1
    while count < 3 or time.perf_counter() - started < WARM_UP_SECONDS:
        session.run(given)
        count += 1
    return scores
