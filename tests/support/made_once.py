"""What is expensive is made once a run: the workers of pytest-xdist share it on disk, and none changes it."""

from __future__ import annotations

import fcntl
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mobilevit_sdk.processes import child


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder`, filled by `make` in the first process that asks for it, while all others wait. Read only."""
    done = folder.with_name(f"{folder.name}.done")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@contextmanager
def in_this_process() -> Iterator[None]:
    """Whatever the SDK runs in child processes runs here: their start and their imports take most of the time.

    For what is not about the child: nothing hears the events of a conversion, a crash is the crash of the tests.
    """
    one_at_a_time = threading.RLock()  # no toolchain is made for threads

    def call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        with one_at_a_time:
            return function(*args)

    try:
        with pytest.MonkeyPatch.context() as patch:
            for module in _with_run_in_child():
                patch.setattr(module, "run_in_child", call)
            yield
    finally:
        for module in _with_run_in_child():  # those that were imported meanwhile took `call`
            if module.run_in_child is call:
                module.run_in_child = child.run_in_child


def _with_run_in_child() -> list[Any]:
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("mobilevit_")]
    return [module for module in modules if hasattr(module, "run_in_child")]
