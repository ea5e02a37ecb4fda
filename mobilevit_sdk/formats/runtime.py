"""Runtimes: what runs an artifact on this machine, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mobilevit_sdk.errors import RequestError

# One image, RGB uint8 [3, H, W] in any memory layout -> class scores, float32 [num_classes].
LoadedArtifact = Callable[[np.ndarray], np.ndarray]


def require_image(pixels: np.ndarray, height: int, width: int, file: str) -> None:
    """Raise RequestError for anything but uint8 [3, height, width], which a runtime might take for such an image."""
    if pixels.shape != (3, height, width) or pixels.dtype != np.uint8:
        wanted = f"uint8 of shape {(3, height, width)}"
        raise RequestError(f"{file} takes {wanted}, not {pixels.dtype} of shape {pixels.shape}")


@dataclass(frozen=True)
class Availability:
    """Whether a toolchain or a runtime works here: its version, or the reason why not and what to do."""

    version: str | None
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.version is not None


class Runtime(Protocol):
    """Runs artifacts of one format. The parity gate loads them in a child process, so a crash is a verdict."""

    name: str
    format: str

    def availability(self) -> Availability:
        """Cheap, and without importing the runtime."""
        ...

    def load(self, path: Path) -> LoadedArtifact:
        """Load the artifact's file. Raises ArtifactError when it is none of this format."""
        ...


@dataclass(frozen=True)
class Session:
    """A loaded file with the steps of its answer apart, so that the computation alone can be timed.

    `to_input` makes what the runtime takes of an image, `run` computes the scores from it. Called, it is a
    LoadedArtifact.
    """

    to_input: Callable[[np.ndarray], Any]
    run: Callable[[Any], np.ndarray]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.run(self.to_input(image))


@runtime_checkable
class TimedRuntime(Runtime, Protocol):
    """A runtime whose speed is the file's own: it computes on this machine's CPU, with as many threads as it is told.

    One that emulates another machine, or chooses its processor itself, is none.
    """

    def session(self, path: Path, threads: int) -> Session:
        """Load the file for `threads` threads, in a process of its own. Raises ArtifactError like `load`."""
        ...


@runtime_checkable
class OnRequestRuntime(Runtime, Protocol):
    """A runtime that is worth its verdict to those who ask for it by its name, and has none otherwise."""

    on_request: str  # why, in a few words


@runtime_checkable
class SelectiveRuntime(Runtime, Protocol):
    """A runtime that takes files of some precisions only; of the others it has no verdict."""

    refuses: Mapping[str, str]  # precision -> why


@runtime_checkable
class InstallableRuntime(Runtime, Protocol):
    """A runtime that can fetch what it needs into the user's cache folder, without root."""

    requirement: str  # the name in `mobilevit doctor --install`

    def install(self, on_progress: Callable[[str], None]) -> Path:
        """Fetch and check it, and return its folder; at once, where it is there and works. Raises ToolchainError."""
        ...
