"""Which runtime runs which file: chosen among those of a format, and named so that a child process finds it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mobilevit_sdk.errors import RequestError, ToolchainError, suggest
from mobilevit_sdk.formats.converter import Converter, find_converter
from mobilevit_sdk.formats.runtime import LoadedArtifact, Runtime, Session, TimedRuntime
from mobilevit_sdk.formats.taps import TappedArtifact, TappedRuntime

R = TypeVar("R", bound=Runtime)


@dataclass(frozen=True)
class RuntimeRef:
    """A phone file and the runtime that is to run it, all by name: what is sent to a child process.

    `open_runtime` and the others look the runtime up there. They raise RequestError for an unknown format, backend or
    runtime, and ArtifactError for a file that does not load.
    """

    format: str
    backend: str | None
    runtime: str
    path: Path

    def open_runtime(self) -> Runtime:
        """The runtime alone; nothing is loaded."""
        runtimes = {runtime.name: runtime for runtime in find_converter(self.format, self.backend).runtimes}
        if self.runtime not in runtimes:
            raise RequestError(f"{self.format} has no runtime {self.runtime!r}; {suggest(self.runtime, runtimes)}")
        return runtimes[self.runtime]

    def load(self) -> LoadedArtifact:
        """The file, ready to answer images."""
        return self.open_runtime().load(self.path)

    def tap(self, image_size: tuple[int, int] | None = None) -> TappedArtifact:
        """The file with its intermediate values, of the entry for `image_size` where it has several.

        Raises RequestError where the runtime does not expose them.
        """
        runtime = self.open_runtime()
        if not isinstance(runtime, TappedRuntime):
            raise RequestError(f"{self.runtime} does not expose intermediate values")
        return runtime.tap(self.path, image_size) if image_size else runtime.tap(self.path)

    def session(self, threads: int) -> Session:
        """The file, ready to be timed on `threads` threads. Raises RequestError where the runtime cannot be timed."""
        runtime = self.open_runtime()
        if not isinstance(runtime, TimedRuntime):
            raise RequestError(f"{self.runtime} cannot be told its number of threads")
        return runtime.session(self.path, threads)


def choose_runtime(converter: Converter, name: str | None, able: Sequence[R], ability: str) -> R:
    """The runtime `name`, or without a name the first that is available here, among those that are `able`.

    `able` are runtimes of `converter`, and `ability` is what they do, such as "run its files". Raises RequestError for
    a name that is not among them, and ToolchainError where none of them is available.
    """
    by_name = {runtime.name: runtime for runtime in able}
    if name is not None and name not in by_name:
        if any(runtime.name == name for runtime in converter.runtimes):
            raise RequestError(f"{name} does not {ability}; use {' or '.join(by_name)}")
        raise RequestError(f"{converter.format} has no runtime {name!r}; {suggest(name, by_name)}")
    wanted = list(able) if name is None else [by_name[name]]
    for runtime in wanted:
        if runtime.availability():
            return runtime
    reasons = "; ".join(f"{runtime.name}: {runtime.availability().reason}" for runtime in wanted)
    raise ToolchainError(f"no {converter.format} runtime that is available here can {ability} ({reasons})")
