"""The machine that latencies were measured on; without it they are meaningless."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mobilevit_sdk.spec import Strict

_TOOLS = ("torch", "executorch", "litert-torch", "ai-edge-litert", "onnxruntime")


class Machine(Strict, frozen=True):
    """`cores` are those that this process may use; `load` is the mean number of runnable ones in the last minute."""

    processor: str
    cores: int
    load: float
    system: str
    tools: dict[str, str]  # package -> version

    def describe(self) -> str:
        """One line for people."""
        tools = ", ".join(f"{name} {number}" for name, number in self.tools.items())
        return (
            f"{self.processor}, {self.cores} cores, load {self.load:.1f} in the minute before, {self.system}; {tools}"
        )


def describe_machine() -> Machine:
    """This machine, now."""
    return Machine(
        processor=_processor(),
        cores=usable_cores(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        tools={name: number for name in _TOOLS if (number := _version(name))},
    )


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """The processor's name: Linux has it in a file, other systems report it to Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution).partition("+")[0]
    except PackageNotFoundError:
        return None
