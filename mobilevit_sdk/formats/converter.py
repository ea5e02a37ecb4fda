"""Converters: how a phone format plugs in. Found through the entry-point group `mobilevit_sdk.converters`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from mobilevit_sdk.errors import RequestError, ToolchainError, suggest
from mobilevit_sdk.formats.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec, Strict

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.formats.quantization import Quantization


class TensorInfo(Strict, frozen=True):
    """An input or output of an artifact, as the file itself states it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class EntryInspection(Strict, frozen=True):
    """What a file of several input sizes holds for one of them; the fields are those of an Inspection."""

    name: str  # in the file: of a method, a signature, a function
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: dict[str, int]
    delegates: int | None
    undelegated_ops: dict[str, int] | None


class Inspection(Strict, frozen=True):
    """What a converted file holds, read back from the file.

    Of a file with several input sizes, inputs and outputs are those of the first, and operators of all are counted.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: dict[str, int]  # kind -> count
    max_rank: int
    # Calls into the accelerated backend for one image, the most of all entries; None where the device decides.
    delegates: int | None
    undelegated_ops: dict[str, int] | None
    spec: ModelSpec | None  # model, labels and preprocessing that travel inside the file, where they do
    backend: str | None = None  # that the file was made for, by its name in `--backend`; None where it has no name
    oldest_system: str | None = None  # that runs the file, such as "iOS 17", where the file says so
    hazards: dict[str, int] | None = None  # form -> count of operators that GPUs of phones refuse or get wrong
    metadata: dict[str, Any] | None = None  # that other tools read from the file, by the names of its public schema
    entries: tuple[EntryInspection, ...] | msgspec.UnsetType = msgspec.UNSET  # for each input size, where several


class Converter(Protocol):
    """One phone format for one backend: writes its files, reads them back, and names the runtimes that run them."""

    format: str  # the name in `--to` and in manifests
    backend: str | None  # the name in `--backend`; None where the format's default has none
    backends: Mapping[str, Converter]  # the format's converters by backend; a default with a name is the first
    suffix: str  # of the file, dot included
    precisions: tuple[str, ...]  # of `quantization.PRECISIONS`; the first is the default
    nearest_precision: Mapping[str, str]  # for those that it cannot express: which to use instead, and why
    target: str  # of `mobilevit_sdk.deployment`
    runtimes: tuple[Runtime, ...]

    def availability(self) -> Availability:
        """Cheap, and without importing the toolchain."""
        ...

    def convert(
        self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
    ) -> None:
        """Write `graph`, a deployed model in eval mode that takes RGB [1, 3, H, W] in [0, 1] and returns logits
        [1, num_classes], to `path`. The file carries `spec`. `quantization` is given for every integer precision.
        Raises ToolchainError.
        """
        ...

    def inspect(self, path: Path) -> Inspection:
        """Read the file back, whichever its backend. Raises ArtifactError when it is not of this format."""
        ...


@runtime_checkable
class HoldsSizes(Protocol):
    """A converter whose files may have an entry for each of several input sizes, and store their weights once."""

    def refuses_sizes(self, precision: str) -> str | None:
        """Why a file of this precision holds one size only, and what to do; None where it may hold several."""
        ...

    def convert_sizes(
        self,
        graphs: Sequence[nn.Module],
        spec: ModelSpec,
        precision: str,
        path: Path,
        quantization: Quantization | None = None,
    ) -> None:
        """`Converter.convert` of a graph for each of `spec.image_sizes`, in their order, to one file.

        What is one tensor in several graphs is stored once. The entries are called as `formats.entries` says.
        """
        ...


@runtime_checkable
class TimesLayers(Protocol):
    """A converter that can time single layers in its format on this machine's CPU."""

    def time_layers(
        self, layers: Sequence[tuple[nn.Module, tuple[int, ...]]], report: Callable[[int, int], None]
    ) -> list[float]:
        """Microseconds of each layer, in eval mode, for a float32 input of the given shape, on one thread.

        `report` is told how many of how many layers are done. Called in a child process. Raises ToolchainError.
        """
        ...


@runtime_checkable
class ImportsToolchain(Protocol):
    """A converter whose toolchain takes long to import, which its users are told."""

    def import_toolchain(self) -> None:
        """Import what `convert` needs, ahead of it. Raises ToolchainError."""
        ...


@cache
def converters() -> dict[str, Converter]:
    """All installed converters by format, in alphabetical order, each with its default backend."""
    found: dict[str, Converter] = {}
    for point in sorted(entry_points(group="mobilevit_sdk.converters"), key=lambda point: point.name):
        try:
            found[point.name] = point.load()
        except (ImportError, AttributeError) as error:
            raise ToolchainError(
                f"the converter {point.value!r} does not load: {error}; uninstall or fix it"
            ) from error
    return found


def find_converter(format_name: str, backend: str | None = None) -> Converter:
    """The converter of a format, for its default backend unless another is named.

    Raises RequestError, with similar names, for an unknown format or backend.
    """
    if format_name not in converters():
        raise RequestError(f"unknown format {format_name!r}; {suggest(format_name, converters())}")
    converter = converters()[format_name]
    if backend is None:
        return converter
    if backend not in converter.backends:
        owners = {name: other.backends for name, other in converters().items() if other.backends}
        wrong = f"has no backend {backend!r}" if converter.backends else "has no backends to choose from"
        having = ", ".join(name for name, backends in owners.items() if backend in backends)
        if having:
            hint = f"give `backend={backend}` with `formats={having}`"
        else:
            hint = suggest(backend, converter.backends) if converter.backends else "leave out `backend`"
        raise RequestError(f"{format_name} {wrong}; {hint}")
    return converter.backends[backend]


def label(converter: Converter) -> str:
    """The name of a converter: its format, with the backend where that is not the default, as `executorch-coreml`."""
    is_default = converter.backend == find_converter(converter.format).backend
    return converter.format if is_default else f"{converter.format}-{converter.backend}"


def converter_of_file(path: Path) -> Converter:
    """The converter whose suffix `path` has. Raises RequestError for an unknown suffix."""
    for converter in converters().values():
        if path.suffix == converter.suffix:
            return converter
    suffixes = ", ".join(converter.suffix for converter in converters().values())
    raise RequestError(f"{path} is not an artifact: expected a file that ends in {suffixes}")


def toolchain_versions(converter: Converter) -> dict[str, str]:
    """The versions that a file depends on, by package; the format's toolchain under the format's name."""
    names = ("mobilevit-sdk", "torch", "numpy")
    return {name: version(name) for name in names} | {converter.format: converter.availability().version or ""}
