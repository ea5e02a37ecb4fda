"""Which toolchains and runtimes work on this machine, and fetching what the others need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mobilevit_sdk.errors import RequestError, ToolchainError, suggest
from mobilevit_sdk.formats.converter import Converter, converters, label
from mobilevit_sdk.formats.runtime import InstallableRuntime, WebRuntime


@dataclass(frozen=True)
class Tool:
    """A toolchain or a runtime: its version here, or the reason why it does not work and what to do."""

    kind: Literal["toolchain", "runtime"]
    name: str
    format: str
    version: str | None
    reason: str | None
    backend: str | None = None  # of the format, where it is not the default

    @property
    def made_for(self) -> str:
        """The format, with the backend where that is not the default, as `executorch-coreml`."""
        return self.format if self.backend is None else f"{self.format}-{self.backend}"


@dataclass(frozen=True)
class Installed:
    """A runtime whose requirement was fetched: its version, or why it still does not work, and the folder."""

    name: str
    format: str
    version: str | None
    reason: str | None
    path: str


def list_tools() -> list[Tool]:
    """The toolchains and runtimes of every format and backend; those that backends share are listed once."""
    tools: dict[Tool, Tool] = {}
    for converter in all_converters():
        backend = None if label(converter) == converter.format else converter.backend
        found = converter.availability()
        rows = [Tool("toolchain", label(converter), converter.format, found.version, found.reason)]
        for runtime in converter.runtimes:
            found = runtime.availability()
            rows.append(Tool("runtime", runtime.name, converter.format, found.version, found.reason))
        for row in rows:
            tools.setdefault(row, replace(row, backend=backend))
    return list(tools.values())


def install(requirement: str, log: Callable[[str], None]) -> list[Installed]:
    """Fetch what the runtimes with this `requirement` need; `log` gets a line for every step.

    A format whose toolchain is not installed is left out, unless none is. Raises RequestError for an unknown
    requirement, and ToolchainError where it cannot be fetched or does not work.
    """
    wanted = [pair for pair in _installable() if pair[1].requirement == requirement]
    if not wanted:
        raise RequestError(f"no runtime needs {requirement!r}; {suggest(requirement, requirements())}")
    rows = []
    for converter, runtime in [pair for pair in wanted if pair[0].availability()] or wanted:
        folder: Path = runtime.install(log)
        found = runtime.availability()
        rows.append(Installed(runtime.name, converter.format, found.version, found.reason, str(folder)))
    return rows


def requirements() -> set[str]:
    """What can be fetched, by the names that `install` takes."""
    return {runtime.requirement for _, runtime in _installable()}


def web_files() -> Path:
    """The folder with the library that runs phone files in a browser: see `WebRuntime.web_files`.

    Raises ToolchainError where it is not installed, with the command that installs it.
    """
    for converter in all_converters():
        for runtime in converter.runtimes:
            if isinstance(runtime, WebRuntime):
                return runtime.web_files()
    raise ToolchainError("no installed converter runs its files in a browser")


def _installable() -> list[tuple[Converter, InstallableRuntime]]:
    return [
        (converter, runtime)
        for converter in all_converters()
        for runtime in converter.runtimes
        if isinstance(runtime, InstallableRuntime)
    ]


def all_converters() -> list[Converter]:
    """The converters of every format and backend, the default of a format first."""
    return list(dict.fromkeys(each for one in converters().values() for each in (one, *one.backends.values())))
