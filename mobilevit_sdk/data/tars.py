"""Images from tar files in the layout of WebDataset: members with one name and several suffixes belong together."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_sdk.data.dataset import ImageDataset
from mobilevit_sdk.data.pictures import image_suffixes
from mobilevit_sdk.data.storage import BlockCache, RowNames, Storage
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import Address
from mobilevit_sdk.text import one_line

BLOCK_BYTES = 8 << 20  # images that lie one after the other and are read at once
_RECORD_BYTES = 20 * tarfile.BLOCKSIZE  # to whose multiple writers fill up with zeros
LABEL_BYTES = 1 << 20  # more than any .cls or .json of a label has


@dataclass
class _Sample:
    """One image and its label, as far as the members of a tar were read."""

    offset: int = -1
    size: int = 0
    label: int | None = None


@dataclass(frozen=True)
class _Members:
    """Reads members of tar files at their offsets, some neighbors at once."""

    system: Any  # the fsspec file system
    files: tuple[str, ...]
    file_of: np.ndarray  # of each block
    begins: np.ndarray  # the offset of each block in its file
    block_bytes: np.ndarray
    blocks: np.ndarray  # of each image, int64 [images]
    offsets: np.ndarray  # in its file
    sizes: np.ndarray

    def __getstate__(self) -> dict[str, object]:  # what is cached stays here
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def cache(self) -> BlockCache:
        return BlockCache(self._read_block, self.block_bytes)

    def __call__(self, index: int) -> bytes:
        block = int(self.blocks[index])
        start = int(self.offsets[index] - self.begins[block])
        encoded: bytes = self.cache(block)[start : start + int(self.sizes[index])]
        return encoded

    def at(self, rows: Sequence[int]) -> _Members:
        chosen = np.asarray(rows, np.int64)
        these = {name: getattr(self, name)[chosen] for name in ("blocks", "offsets", "sizes")}
        reader = replace(self, **these)
        reader.__dict__["cache"] = self.cache
        return reader

    def _read_block(self, block: int) -> bytes:
        path, begin = self.files[int(self.file_of[block])], int(self.begins[block])
        try:
            encoded: bytes = self.system.cat_file(path, begin, begin + int(self.block_bytes[block]))
        except Exception as error:  # a store's errors are of many kinds
            raise RequestError(f"{path} cannot be read ({one_line(str(error))})") from error
        return encoded


def open_tars(source: Path | Address, system: Any, files: Sequence[str], labeled: bool) -> ImageDataset:
    """Samples of tar files that hold an image and, for a label, its class index in `.cls` or as `label` in `.json`.

    The headers of all members are read now, which takes a pass over files in a store; images are read when they are
    asked for. Raises RequestError for a file that is no tar or a damaged one, and when `labeled` for an image without a
    label.
    """
    counts: list[int] = [0]
    file_of: list[int] = []
    begins: list[int] = []
    block_bytes: list[int] = []
    blocks, offsets, sizes, labels = [], [], [], []
    for number, path in enumerate(files):
        samples = _index(system, path)
        end = -1
        for sample in samples:
            if not begins or file_of[-1] != number or end - begins[-1] + sample.size > BLOCK_BYTES:
                file_of.append(number)
                begins.append(sample.offset)
                block_bytes.append(0)
            end = sample.offset + sample.size
            block_bytes[-1] = end - begins[-1]
            blocks.append(len(begins) - 1)
            offsets.append(sample.offset)
            sizes.append(sample.size)
            labels.append(sample.label)
        counts.append(counts[-1] + len(samples))
    if not blocks:
        raise RequestError(f"{source} holds no images")
    arrays = [np.asarray(each, np.int64) for each in (file_of, begins, block_bytes, blocks, offsets, sizes)]
    reader = _Members(system, tuple(files), *arrays)
    rows = np.arange(len(blocks), dtype=np.int64)
    names = RowNames(tuple(path.rpartition("/")[2] for path in files), np.asarray(counts[:-1], np.int64), rows)
    storage = Storage(reader.blocks, reader.block_bytes)
    images = ImageDataset(source, names, reader, None, None, storage=storage, is_checked=True)
    known = [label for label in labels if label is not None]
    if len(known) == len(labels):
        return replace(images, labels=known)
    if labeled:
        raise RequestError(f"{source}: {names[labels.index(None)]} has no label in a .cls or .json beside it")
    return images


def _index(system: Any, path: str) -> list[_Sample]:
    """Where the images of a tar lie, in the order of the file."""
    found: dict[str, _Sample] = {}
    suffixes = image_suffixes()
    try:
        length = system.size(path)
        with system.open(path, "rb") as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            for member in tar:
                if member.size < 0 or tar.offset <= member.offset:  # tarfile would go back, and on and on
                    raise ValueError(f"{member.name} has a negative size")
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                    continue
                folder, _, name = member.name.rpartition("/")
                key, _, suffix = name.partition(".")
                sample = found.setdefault(f"{folder}/{key}", _Sample())
                if f".{suffix.lower()}" in suffixes:
                    sample.offset, sample.size = member.offset_data, member.size
                    if sample.offset + sample.size > length:
                        raise ValueError(f"it ends within {member.name}")
                elif suffix in ("cls", "json") and sample.label is None:
                    sample.label = _label(tar, member, suffix)
            _check_end(opened, tar.offset)
    except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} is no tar file, or a damaged one ({one_line(str(error))})") from error
    return sorted((sample for sample in found.values() if sample.offset >= 0), key=lambda sample: sample.offset)


def _check_end(opened: Any, offset: int) -> None:
    """Raise ValueError unless a tar's end stands at `offset`: tarfile takes a damaged or a missing header for it."""
    opened.seek(offset)
    end = opened.read(_RECORD_BYTES)
    if len(end) < tarfile.BLOCKSIZE:
        raise ValueError("it is cut off: the empty block is missing that ends a tar")
    if any(end):
        raise ValueError(f"what stands at byte {offset:,} is neither a member nor the end")


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> int | None:
    if member.size > LABEL_BYTES:
        raise ValueError(f"{member.name} is too long for a label")
    opened = tar.extractfile(member)
    text = opened.read().decode() if opened else ""
    value = json.loads(text) if suffix == "json" else int(text)
    if isinstance(value, dict):
        value = value.get("label")
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
