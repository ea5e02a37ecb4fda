"""The entries of a phone file with several input sizes: their names in the file, and what a manifest says of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.app_input import AppInput, app_input_of
from mobilevit_sdk.formats.converter import EntryInspection, Inspection, TensorInfo
from mobilevit_sdk.formats.runtime import Size
from mobilevit_sdk.spec import ModelSpec, Strict, in_pixels
from mobilevit_sdk.text import one_line


class Entry(Strict, frozen=True):
    """What an app calls for images of one size; see `converter.EntryInspection` and `artifacts.artifact.Manifest`."""

    name: str
    image_size: tuple[int, int]
    app_input: AppInput | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: dict[str, int]
    delegates: int | None
    undelegated_ops: dict[str, int] | None


def entry_name(size: tuple[int, int]) -> str:
    """Of every entry but the first, which has the name that files of one size have in their format."""
    return f"image_{in_pixels(size)}"


def entry_names(spec: ModelSpec | None, first: str) -> dict[Size, str]:
    """The names of a file's entries by image size, height and width; None is the size that a file does not state."""
    if spec is None:
        return {None: first}
    return {size: entry_name(size) if index else first for index, size in enumerate(spec.sizes)}


def inspection_of(entries: Sequence[EntryInspection], **others: Any) -> Inspection:
    """An Inspection of all entries of a file, of which most have one."""
    delegates = [entry.delegates for entry in entries if entry.delegates is not None]
    outside = [entry.undelegated_ops for entry in entries if entry.undelegated_ops is not None]
    whole = len(delegates) == len(outside) == len(entries)
    return Inspection(
        inputs=entries[0].inputs,
        outputs=entries[0].outputs,
        operators=summed(entry.operators for entry in entries),
        delegates=max(delegates) if whole else None,
        undelegated_ops=summed(outside) if whole else None,
        entries=tuple(entries) if len(entries) > 1 else msgspec.UNSET,
        **others,
    )


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts by name, added up, in the order of the names."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def manifest_entries(inspection: Inspection, spec: ModelSpec) -> tuple[Entry, ...] | msgspec.UnsetType:
    """What the manifest says of each entry, in the order of the spec's sizes; unset for a file of one size."""
    if not inspection.entries:
        return msgspec.UNSET
    return tuple(
        Entry(
            image_size=of_size.preprocessing.image_size,
            app_input=app_input_of(entry.inputs, of_size.preprocessing),
            **msgspec.structs.asdict(entry),
        )
        for entry, of_size in zip(inspection.entries, spec.entries, strict=True)
    )


def check_entries(entries: Sequence[Entry] | msgspec.UnsetType, spec: ModelSpec, path: Path) -> None:
    """Raise ArtifactError unless these are the entries of a file with the sizes of `spec`, in their order."""
    sizes = spec.sizes if spec.image_sizes else ()
    found = () if entries is msgspec.UNSET else tuple(entries)
    if tuple(entry.image_size for entry in found) != sizes:
        listed = ", ".join(in_pixels(entry.image_size) for entry in found[:20]) or "none"
        wanted = ", ".join(map(in_pixels, sizes)) or "none: it has one image size"
        raise ArtifactError(f"{path} has entries for {listed}, and its spec for {wanted}; convert again")
    names = [entry.name for entry in found]
    if len(set(names)) < len(names) or names[1:] != [entry_name(size) for size in sizes[1:]]:
        shown = one_line(", ".join(names), 200)
        raise ArtifactError(f"{path} calls its entries {shown}, which is not how they are called; convert again")
