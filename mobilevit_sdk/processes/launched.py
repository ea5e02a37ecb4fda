"""The processes that torchrun starts for one command: which of them this is, and what became of the others."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

GRACE_SECONDS = 10.0  # in which the launcher ends those that are left, as torchrun does


def world_size() -> int:
    """How many processes were started for this command: 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return int(os.environ.get("RANK", 0)) if world_size() > 1 else 0


def watch(others: Mapping[int, int], host: str, hint: str) -> None:
    """Say on standard error when one of the `others` on this machine, process ids by rank, is killed by a signal.

    One of those that are left says it, in a line that ends with `hint`; and where no launcher ends them, they end
    themselves. Only Linux can tell: elsewhere nothing is watched.
    """
    if others and hasattr(os, "pidfd_open"):
        threading.Thread(target=_watch, args=(dict(others), host, hint), daemon=True, name="watch").start()


def _watch(others: dict[int, int], host: str, hint: str) -> None:
    poll, ranks = select.poll(), {}
    for other, process in others.items():
        try:
            descriptor = os.pidfd_open(process)
        except OSError:  # it has ended already, or the kernel is older than 5.3
            continue
        ranks[descriptor] = other
        poll.register(descriptor, select.POLLIN)
    while ranks:
        for descriptor, _ in poll.poll():
            poll.unregister(descriptor)
            os.close(descriptor)
            ended = ranks.pop(descriptor)
            number = _signal_that_ended(others[ended])
            if number is None:  # it has said itself what was wrong, if anything was, or the launcher says it
                continue
            if rank() == min({rank(), *others} - {ended}):
                name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
                # A thread's word before the launcher's signal ends this process, too: nothing else is in time.
                sys.stderr.write(
                    f"error: rank {ended} (process {others[ended]} on {host}) was killed by {name}; {hint}\n"
                )
                sys.stderr.flush()
            time.sleep(GRACE_SECONDS)
            os._exit(1)


def _signal_that_ended(process: int) -> int | None:
    """The signal that a process died of, as long as its parent has not taken note of it; None if of none."""
    try:
        status = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[-1])
    except (OSError, ValueError):
        return None
    return status & 0x7F or None
