"""Answers of a teacher on disk, in the layout of TinyViT (arXiv 2207.10666, section 3; its code, microsoft/Cream).

A folder `logits_top{K}_epoch{E}` holds the records of an epoch, counted from 0, in pairs of files: `rank{R}-keys.txt`
has the name of an image on each line; `rank{R}-values.bin` has for each of them the seed of its augmentation, an int32,
the K most likely classes, int16 (uint16 where there are more than 32,767), most likely first, and their probabilities,
float16: 4 + 4 K bytes, little endian. `manifest.json` beside these folders is this SDK's own and says what it takes to
train on them; TinyViT's code reads the folders without it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import decode_json, replacing
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.text import one_line

MANIFEST = "manifest.json"
MAX_CLASSES = 1 << 16  # that an index of two bytes can tell apart
MAX_KEY_BYTES = 4096
MAX_PARTS = 512  # pairs of files in an epoch, each of which is held open
MAX_MANIFEST_BYTES = 64 << 20
# What a recipe says of the view of an image, so that a seed makes it again.
AUGMENTATION = (
    "crop_scale",
    "augment_ops",
    "augment_magnitude",
    "magnitude_std",
    "augment_probability",
    "color_jitter",
    "erase_probability",
)


class Versions(Strict, frozen=True, kw_only=True):
    """Of all that makes pixels of a seed."""

    augmentation: int
    torch: str
    pillow: str


class DataIdentity(Strict, frozen=True, kw_only=True):
    """Which images were labeled: their number, the hash of all names, and those of some encoded images by number."""

    source: str
    images: int
    names_sha256: str
    samples: dict[str, str]


class Manifest(Strict, frozen=True, kw_only=True):
    """What a folder of stored labels holds."""

    format: int = 1
    top_k: int
    epochs: int
    classes: int
    labels: tuple[str, ...] | None  # the names of the classes, in their order
    part_images: int  # of each pair of files, but the last
    image_size: tuple[int, int]  # of the views that the teacher saw, before it resized them
    pixels: tuple[int, int]  # that images were decoded to, before they were augmented
    seed: int
    augmentation: dict[str, Any]  # those fields of the recipe
    versions: Versions
    teacher: dict[str, Any]
    teacher_sha256: str
    data: DataIdentity

    def __post_init__(self) -> None:
        if self.format != 1:
            raise ValueError(f"format {self.format} is of a newer version of this SDK")
        check_top_k(self.top_k, self.classes)
        if self.labels is not None and len(set(self.labels)) != self.classes:
            raise ValueError(f"{len(set(self.labels))} names are not those of {self.classes} classes")
        if not 1 <= self.epochs <= 1_000_000 or not 0 <= self.seed < 2**63:
            raise ValueError("epochs or seed out of range")
        if not 1 <= self.part_images <= 1 << 24 or not 1 <= self.data.images < 1 << 40:
            raise ValueError("part_images or images out of range")
        if self.parts > MAX_PARTS:
            raise ValueError(f"{self.parts:,} parts of an epoch are more than {MAX_PARTS}")
        if not 1 <= min(*self.image_size, *self.pixels) <= max(*self.image_size, *self.pixels) <= 16384:
            raise ValueError("image_size or pixels out of range")
        if not all(number.isdecimal() and len(number) < 13 for number in self.data.samples):
            raise ValueError("samples are no numbers of images")
        if set(self.augmentation) != set(AUGMENTATION):
            raise ValueError("augmentation has other fields than those of this version")

    @property
    def parts(self) -> int:
        """Pairs of files in each epoch."""
        return -(-self.data.images // self.part_images)

    def rows(self, part: int) -> range:
        """The images of a pair of files, as they are numbered in the data."""
        return range(part * self.part_images, min((part + 1) * self.part_images, self.data.images))


def check_top_k(top_k: int, classes: int) -> None:
    """Raise ValueError for numbers that records cannot have."""
    if not 2 <= classes <= MAX_CLASSES:
        raise ValueError(f"records tell 2 to {MAX_CLASSES:,} classes apart, not {classes:,}")
    if not 1 <= top_k <= classes:
        raise ValueError(f"of {classes:,} classes, 1 to all can be stored, not {top_k:,}")


def record_type(top_k: int, classes: int) -> np.dtype:
    """Of one record: `seed`, `classes` [K] and `probabilities` [K]."""
    index = "<i2" if classes < 1 << 15 else "<u2"
    return np.dtype([("seed", "<i4"), ("classes", index, (top_k,)), ("probabilities", "<f2", (top_k,))])


def epoch_folder(folder: Path, top_k: int, epoch: int) -> Path:
    return folder / f"logits_top{top_k}_epoch{epoch}"


def write_part(folder: Path, part: int, keys: bytes, records: np.ndarray) -> None:
    """One pair of files: it is whole once the keys are there, which come last."""
    for name, content in ((f"rank{part}-values.bin", records.tobytes()), (f"rank{part}-keys.txt", keys)):
        with replacing(folder / name) as fresh:
            fresh.write_bytes(content)


def is_written(folder: Path, part: int) -> bool:
    return (folder / f"rank{part}-keys.txt").exists()


def encode_keys(names: Sequence[str]) -> bytes:
    """The names of images, one a line. Raises RequestError for one that is no line."""
    for name in names:
        if not name or name != name.strip() or any(c in name for c in "\r\n") or len(name) > MAX_KEY_BYTES // 4:
            raise RequestError(f"the name {one_line(name)!r} of an image cannot be a line of a file: rename it")
    return "".join(f"{name}\n" for name in names).encode(errors="surrogateescape")


@dataclass(frozen=True)
class Epoch:
    """The records of an epoch of any writer, mapped into memory: nothing is read before it is asked for."""

    folder: Path
    parts: tuple[int, ...]  # numbers in the names of files
    records: tuple[np.ndarray, ...]  # of each part

    def __len__(self) -> int:
        return sum(map(len, self.records))

    @cached_property
    def starts(self) -> np.ndarray:
        """The number of each part's first record among all."""
        return np.cumsum([0, *map(len, self.records)])

    def keys(self) -> Iterator[str]:
        """The names of the images, record by record. Raises RequestError where there are more or fewer than records."""
        for part, records in zip(self.parts, self.records, strict=True):
            content = self.key_bytes(part, len(records))
            lines = content.decode(errors="surrogateescape").split("\n")
            if lines.pop() or len(lines) != len(records):
                path = self.folder / f"rank{part}-keys.txt"
                raise RequestError(f"{path} has {len(lines):,} names for {len(records):,} records: write it again")
            yield from lines

    def key_bytes(self, part: int, records: int) -> bytes:
        """The file of names. Raises RequestError for one that is too large to be it."""
        path = self.folder / f"rank{part}-keys.txt"
        try:
            if (size := path.stat().st_size) > records * (MAX_KEY_BYTES + 1):
                raise RequestError(f"{path} has {size:,} bytes of names for {records:,} records: it is no such file")
            return path.read_bytes()
        except OSError as error:
            raise RequestError(f"cannot read {path}: {error.strerror or error}") from error

    def at(self, numbers: np.ndarray) -> np.ndarray:
        """Records by their number among all. Raises RequestError for values that no teacher gave."""
        part = np.searchsorted(self.starts, numbers, side="right") - 1
        found = np.empty(len(numbers), self.records[0].dtype)
        for each in np.unique(part).tolist():
            here = part == each
            found[here] = self.records[each][numbers[here] - self.starts[each]]
        return found


def read_epoch(folder: Path, top_k: int, epoch: int, classes: int = 1 << 15) -> Epoch:
    """The records of an epoch that this SDK or TinyViT's code wrote.

    Raises RequestError where there are none, and for files that are cut off or do not belong together.
    """
    try:
        check_top_k(top_k, classes)
    except ValueError as error:
        raise RequestError(f"{folder}: {error}") from error
    place, kind = epoch_folder(folder, top_k, epoch), record_type(top_k, classes)
    parts = sorted(int(found[1]) for path in place.glob("rank*-keys.txt") if (found := _RANK.fullmatch(path.name)))
    if not parts:
        raise RequestError(f"{folder} has no labels of epoch {epoch}: {place.name} holds no rank0-keys.txt")
    if len(parts) > MAX_PARTS:
        raise RequestError(f"{place} holds {len(parts):,} parts, more than {MAX_PARTS}")
    records = []
    for part in parts:
        path = place / f"rank{part}-values.bin"
        try:
            size = path.stat().st_size
            if size % kind.itemsize or not size:
                whole, rest = divmod(size, kind.itemsize)
                raise RequestError(
                    f"{path} is cut off, or has another K: {size:,} bytes are {whole:,} records of {kind.itemsize} "
                    f"bytes and {rest} more"
                )
            records.append(np.memmap(path, kind, "r"))
        except (OSError, ValueError) as error:
            raise RequestError(f"cannot read {path}: {error}") from error
    return Epoch(place, tuple(parts), tuple(records))


_RANK = re.compile(r"rank(\d{1,9})-keys\.txt")
_EPOCH = re.compile(r"logits_top(\d{1,6})_epoch(\d{1,7})")


def stored_epochs(folder: Path) -> dict[int, list[int]]:
    """By K, which epochs a folder has something of, whoever wrote it."""
    found: dict[int, list[int]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := _EPOCH.fullmatch(path.name):
            found.setdefault(int(match[1]), []).append(int(match[2]))
    return {top_k: sorted(epochs) for top_k, epochs in sorted(found.items())}


def read_manifest(folder: Path) -> Manifest:
    """Raises RequestError where there is none of this SDK, also for labels that TinyViT's own code wrote."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError("it is too large")
        return decode_json(path.read_bytes(), Manifest)
    except FileNotFoundError:
        if stored_epochs(folder):
            raise RequestError(
                f"{folder} has no {MANIFEST}: its seeds are of the random numbers of TinyViT's own code, which cannot "
                f"be replayed here, so nothing can learn from it; `mobilevit label` makes labels that can be used"
            ) from None
        raise RequestError(f"{folder} holds no stored labels: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} is not a manifest of stored labels ({one_line(str(error))})") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    with replacing(folder / MANIFEST) as fresh:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))


def manifest_sha256(manifest: Manifest) -> str:
    """Of all that decides the records of an epoch, whether there are more or fewer epochs."""
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, epochs=1))).hexdigest()
