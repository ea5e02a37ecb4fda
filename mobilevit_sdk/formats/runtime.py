"""Runtimes: what runs an artifact on this machine, or states why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.spec import FEATURES, LOGITS, ModelSpec, in_pixels

Loaded = TypeVar("Loaded")
Size = tuple[int, int] | None  # height and width; None: that of a file which does not state it

# One image, RGB uint8 [3, H, W] in any memory layout -> the answer, float32 [values]: class scores or features, and of
# a file with several outputs all of them, one after the other in the order of the spec.
LoadedArtifact = Callable[[np.ndarray], np.ndarray]


def as_row(outputs: Iterable[np.ndarray]) -> np.ndarray:
    """The outputs of a file, in the order of its spec, as the one row that a LoadedArtifact answers."""
    return np.concatenate([np.asarray(each).reshape(-1).astype(np.float32, copy=False) for each in outputs])


def output_order(spec: ModelSpec | None, names: Sequence[str], file: Path) -> list[int]:
    """Where the outputs of `spec` stand among those of its file, which have `names`.

    Without a spec the file is another tool's, and has one output. Raises ArtifactError where they do not correspond.
    """
    wanted = [output.name for output in spec.outputs] if spec else names[:1]
    if len(wanted) == len(names) == 1:
        return [0]
    if sorted(wanted) != sorted(names):
        said = f"what it says of itself names {', '.join(wanted)}" if spec else "it does not say what they are"
        raise ArtifactError(f"{file} has the outputs {', '.join(names) or 'none'}, and {said}; convert again")
    return [names.index(name) for name in wanted]


def answer_names(spec: ModelSpec | None, names: Collection[str], file: Path) -> list[str]:
    """Which of the outputs of a file, called `names`, are the answer, in the order of its spec.

    A Core ML classifier has others, too. Raises ArtifactError for a file of another tool, and for one that has other
    answers than its spec.
    """
    known = {LOGITS, FEATURES, *(output.name for output in (spec.outputs if spec else ()))}
    answers = [name for name in names if name in known]
    if not answers:
        raise ArtifactError(f"{file} does not go from an image to {LOGITS} or {FEATURES}")
    return [answers[i] for i in output_order(spec, answers, file)]


def require_image(pixels: np.ndarray, height: int, width: int, file: str) -> None:
    """Raise RequestError for anything but uint8 [3, height, width]: a runtime might misread it as such an image."""
    if pixels.shape != (3, height, width) or pixels.dtype != np.uint8:
        wanted = f"uint8 of shape {(3, height, width)}"
        raise RequestError(f"{file} takes {wanted}, not {pixels.dtype} of shape {pixels.shape}")


def chosen_by_size(sizes: Iterable[Size], load: Callable[[Size], Loaded], file: str) -> Callable[[np.ndarray], Loaded]:
    """For a file with an entry for each of these image sizes: from an image, uint8 [3, H, W], to what runs it.

    `load` gives that for a size; it is called once for each that is asked for, and for the first at once. Raises
    RequestError for an image of another size.
    """
    sizes = tuple(sizes)
    loaded = {sizes[0]: load(sizes[0])}

    def choose(image: np.ndarray) -> Loaded:
        size = image.shape[1:]
        if len(sizes) == 1:
            return loaded[sizes[0]]  # which refuses other sizes in its own words
        if size not in sizes:
            known = ", ".join(map(in_pixels, filter(None, sizes)))
            raise RequestError(f"{file} takes images of {known}, not of shape {image.shape}")
        if size not in loaded:
            loaded[size] = load(size)
        return loaded[size]

    return choose


@dataclass(frozen=True)
class Availability:
    """Whether a toolchain or a runtime works here: its version, or the reason why it does not and what to do."""

    version: str | None
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.version is not None


class Runtime(Protocol):
    """Runs artifacts of one format. The parity gate loads them in a child process, so that a crash is a verdict."""

    name: str
    format: str

    def availability(self) -> Availability:
        """Cheap, and without importing the runtime."""
        ...

    def load(self, path: Path) -> LoadedArtifact:
        """Load the artifact's file. Raises ArtifactError when it is not of this format."""
        ...


@dataclass(frozen=True)
class Session:
    """A loaded file with input preparation and computation apart, so that the computation alone can be timed.

    `to_input` turns an image into what the runtime takes, `run` computes the scores from that. A session is itself a
    LoadedArtifact.
    """

    to_input: Callable[[np.ndarray], Any]
    run: Callable[[Any], np.ndarray]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.run(self.to_input(image))


def session_by_size(sizes: Iterable[Size], load: Callable[[Size], Session], file: str) -> Session:
    """The session of a file with an entry for each of these sizes; see `chosen_by_size`."""
    sizes = tuple(sizes)
    if len(sizes) == 1:
        return load(sizes[0])
    choose = chosen_by_size(sizes, load, file)

    def to_input(image: np.ndarray) -> tuple[Session, Any]:
        session = choose(image)
        return session, session.to_input(image)

    return Session(to_input, lambda given: given[0].run(given[1]))


@runtime_checkable
class TimedRuntime(Runtime, Protocol):
    """A runtime whose latency is meaningful: it computes on this machine's CPU, with a given number of threads.

    A runtime that emulates another machine, or chooses its processor itself, is not one.
    """

    def session(self, path: Path, threads: int) -> Session:
        """Load the file for `threads` threads; called in a child process. Raises ArtifactError like `load`."""
        ...


@dataclass(frozen=True)
class InstructionCount:
    """What one inference executes, in one thread: exact, and the same on every machine that counts."""

    by_mnemonic: dict[str, int]  # in the processor's own language, such as "fmla"

    @property
    def total(self) -> int:
        return sum(self.by_mnemonic.values())


@runtime_checkable
class CountedRuntime(Runtime, Protocol):
    """A runtime that counts instructions: one on an emulated processor."""

    def count_instructions(self, path: Path, image: np.ndarray) -> InstructionCount:
        """Of one inference, warmed up; called in a child process. Raises ArtifactError like `load`, ToolchainError."""
        ...


@runtime_checkable
class OnRequestRuntime(Runtime, Protocol):
    """A runtime that runs only when it is requested by name: slow, or of interest to few."""

    on_request: str  # why, in a few words


@runtime_checkable
class SelectiveRuntime(Runtime, Protocol):
    """A runtime that takes files of some precisions only; the others have no verdict on it."""

    refuses: Mapping[str, str]  # precision -> why


@runtime_checkable
class InstallableRuntime(Runtime, Protocol):
    """A runtime that can fetch what it needs into the user's cache folder, without root."""

    requirement: str  # the name in `mobilevit doctor --install`

    def install(self, on_progress: Callable[[str], None]) -> Path:
        """Download and check what is needed, unless it is there and works; its folder. Raises ToolchainError."""
        ...


@runtime_checkable
class WebRuntime(Runtime, Protocol):
    """A runtime that runs its files in a browser, with a library that any page can use."""

    def web_files(self) -> Path:
        """The folder that a page finds beside it as `litert/`: the ES module `core/index.js` with what it imports, its
        `core/package.json`, and `wasm/`. All of it is for the public. Raises ToolchainError where it is not installed.
        """
        ...
