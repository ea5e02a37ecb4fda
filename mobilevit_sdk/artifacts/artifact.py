"""An artifact on disk: a folder with the phone file, its manifest, and the vectors that prove it.

    mobilevit_xxs-tflite-fp32/
        mobilevit_xxs.tflite      what the app ships
        manifest.json             its contents and where it came from
        reference.safetensors     images and PyTorch's answers to them, to verify it anywhere

The folder is written whole and renamed once, so that the three always belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mobilevit_sdk.arguments import several
from mobilevit_sdk.artifacts.quantization_record import QuantizationRecord
from mobilevit_sdk.artifacts.reference import REFERENCE, Reference, read_reference
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.files import decode_json, hash_and_size, is_file_name, is_there, read_text
from mobilevit_sdk.formats.app_input import AppInput
from mobilevit_sdk.formats.converter import Converter, Inspection, TensorInfo, converter_of_file, find_converter
from mobilevit_sdk.formats.entries import Entry, check_entries
from mobilevit_sdk.formats.extras import Extra
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.spec import ModelSpec, Origin, Strict

MANIFEST = "manifest.json"
REJECTED = ".rejected"  # suffix of an integer artifact's folder where it does the task too badly


class Manifest(Strict, frozen=True, kw_only=True):
    """The facts beside every artifact; all of them derived, none typed by hand.

    Of a file with several input sizes, `entries` says what each is called; `app_input`, `inputs` and `outputs` are
    those of the first, `operators` and `undelegated_ops` of all together, `delegates` the most of one.
    """

    schema: int = 1  # 2 with `entries`
    file: str
    format: str
    precision: str
    backend: str | None = None  # that the file was made for; None where it has no name
    target: str
    bytes: int
    sha256: str
    spec: ModelSpec
    config_sha256: str
    origin: Origin
    tools: dict[str, str]  # package -> version
    seconds: float  # to convert
    peak_memory_bytes: int  # of the converting process
    app_input: AppInput | None = None  # what an app feeds; None in files of before, and where that is not one image
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: dict[str, int]
    max_rank: int
    delegates: int | None
    undelegated_ops: dict[str, int] | None
    oldest_system: str | None = None  # that runs the file, such as "iOS 17", where the file says so
    hazards: dict[str, int] | None = None  # form -> count of operators that GPUs of phones refuse or get wrong
    warnings: tuple[str, ...] = ()  # of the static audit, for networks that are not the SDK's own, and of the converter
    quantization: QuantizationRecord | None = None  # for integer precisions
    entries: tuple[Entry, ...] | msgspec.UnsetType = msgspec.UNSET  # for each input size, where there are several
    extras: tuple[Extra, ...] | msgspec.UnsetType = msgspec.UNSET  # files for developer tools beside it, if any


@dataclass(frozen=True)
class Artifact:
    """A phone file and the folder that proves it."""

    path: Path
    manifest: Manifest

    @property
    def converter(self) -> Converter:
        """The converter that made the file. Raises RequestError where its format is not installed."""
        return find_converter(self.manifest.format, self.manifest.backend)

    def on(self, runtime: str) -> RuntimeRef:
        """The file on one of its runtimes, for a child process."""
        return RuntimeRef(self.manifest.format, self.manifest.backend, runtime, self.path)

    def reference(self) -> Reference:
        """The vectors beside the file. Raises ArtifactError when they are missing, malformed or do not fit."""
        return read_reference(self.path.parent / REFERENCE, self.manifest.spec)

    @property
    def rejected(self) -> bool:
        """Whether the artifact does the task too badly to ship."""
        record = self.manifest.quantization
        return bool(record and record.judgment and record.judgment.rejected)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was rejected, each with its bar; none where it was not."""
        record = self.manifest.quantization
        return record.judgment.reasons if record and record.judgment else ()

    def is_unchanged(self) -> bool:
        """Whether the file, and those for developer tools, are still the ones that the manifest describes."""
        return hash_and_size(self.path) == (self.manifest.sha256, self.manifest.bytes) and not self._changed_extra()

    def _changed_extra(self) -> Path | None:
        for extra in self.manifest.extras or ():
            path = self.path.parent / extra.file
            if not path.is_file() or hash_and_size(path) != (extra.sha256, extra.bytes):
                return path
        return None

    def require_unchanged(self, found: tuple[str, int] | None = None) -> None:
        """Raise ArtifactError unless the file is the one that the manifest describes.

        `found` is the SHA-256 and size of what was read or copied of it; without, the file is hashed.
        """
        unchanged = (found or hash_and_size(self.path)) == (self.manifest.sha256, self.manifest.bytes)
        changed = self._changed_extra() if unchanged else self.path
        if changed is not None:
            raise ArtifactError(
                f"{changed} is not the file that its manifest describes: its size or SHA-256 differs; convert again"
            )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


ArtifactLike = Artifact | Path | str  # one that was opened, its file, its folder, or a folder of several


def find_artifacts(given: ArtifactLike | Sequence[ArtifactLike]) -> list[Artifact]:
    """The artifacts that are given, one or several: as an Artifact, a phone file, its folder, or a folder of several.

    Raises ArtifactError where none is found, or where a manifest is missing or malformed.
    """
    found: dict[Path, Artifact] = {}
    listed: list[ArtifactLike] = several(given)
    for each in listed:
        if isinstance(each, Artifact):
            found[each.path.parent.resolve()] = each
            continue
        path = Path(each)
        if not is_there(path):
            raise ArtifactError(f"{path} does not exist; give a converted file or the folder that holds it")
        folders = _folders(path)
        if not folders:
            raise ArtifactError(f"{path} holds no artifact (no {MANIFEST} in it or in a folder below it)")
        for folder in folders:
            found[folder.resolve()] = open_artifact(folder)
    return list(found.values())


def find_artifact(given: ArtifactLike) -> Artifact:
    """The only artifact that is given. Raises ArtifactError as `find_artifacts` does, and where there are several."""
    found = find_artifacts(given)
    if len(found) > 1:
        raise ArtifactError(f"{given} holds {len(found)} artifacts; give one of them, such as {found[0].path.parent}")
    return found[0]


def _folders(path: Path) -> list[Path]:
    if path.is_dir() and (path / MANIFEST).is_file():
        return [path]
    if (path.parent / MANIFEST).is_file():
        return [path.parent]
    if not path.is_dir():
        return []
    folders = sorted(manifest.parent for manifest in path.glob(f"[!.]*/{MANIFEST}"))
    return [folder for folder in folders if folder.suffix != REJECTED]


def open_artifact(folder: Path) -> Artifact:
    """Read an artifact's manifest. Raises ArtifactError when it, or the file that it names, is missing or malformed."""
    path = folder / MANIFEST
    try:
        manifest = decode_json(read_text(path), Manifest)
    except FileNotFoundError:
        raise ArtifactError(f"{folder} is not an artifact: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not a manifest of this SDK ({error})") from error
    for name in (manifest.file, *(extra.file for extra in manifest.extras or ())):
        if not is_file_name(name) or not is_there(folder / name):
            raise ArtifactError(f"{path} names the file {name!r}, which is not in its folder")
    check_entries(manifest.entries, manifest.spec, path)
    return Artifact(folder / manifest.file, manifest)


def inspect_artifact(path: ArtifactLike) -> Inspection:
    """Read back what a phone file holds, from the file alone: operators, ranks, delegates, labels, preprocessing.

    `path` is the file, its artifact's folder, or an artifact that was opened. Raises ArtifactError when it is none of
    them, or malformed.
    """
    path = path.path if isinstance(path, Artifact) else Path(path)
    if is_there(path / MANIFEST):
        path = open_artifact(path).path
    if not is_there(path):
        raise ArtifactError(f"{path} does not exist; give a converted file or the folder that holds it")
    return converter_of_file(path).inspect(path)
