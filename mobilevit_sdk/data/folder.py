"""Images from a folder: with one folder per class, or without labels."""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.data.dataset import ClassOrder, ImageDataset
from mobilevit_sdk.data.pictures import image_suffixes
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.text import count, shorten

# What systems, servers and archives leave behind, in lower case; names that begin with a dot are hidden anyway.
_LEFT_BEHIND = frozenset(
    {
        "__macosx", "icon\r",  # macOS
        "$recycle.bin", "recycler", "system volume information", "found.000", "thumbs.db", "desktop.ini",  # Windows
        "lost+found",  # Linux
        "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot",  # network storage
        "__pycache__",
    }
)  # fmt: skip


@dataclass(frozen=True)
class _Files:
    """Reads files by their names in a folder."""

    folder: Path
    names: list[str]

    def __call__(self, index: int) -> bytes:
        return (self.folder / self.names[index]).read_bytes()

    def at(self, rows: Sequence[int]) -> _Files:
        return _Files(self.folder, [self.names[row] for row in rows])


def open_folder(folder: Path, labeled: bool, class_order: ClassOrder | None) -> ImageDataset:
    """Every picture in `folder` and below; links are followed, and each folder is entered once.

    The folders in it are the classes, those without readable pictures too, and hidden ones and what systems leave
    behind excepted. `class_order` is the order of their indices, by default lexicographic, as in torchvision's
    ImageFolder; "natural" counts 1, 2, 10. Where a picture lies elsewhere than in a class folder, there are no labels.
    Raises RequestError for that when `labeled`, and for a folder that cannot be read.
    """
    classes, files = _walk(folder)
    suffixes = image_suffixes()
    found = sorted(path.relative_to(folder) for path in files if path.suffix.lower() in suffixes)
    unread = Counter(path.suffix.lower() or "without a suffix" for path in files)
    by_number = sorted(unread.items(), key=lambda kind: (-kind[1], kind[0]))
    kinds = [f"{number} {suffix}" for suffix, number in by_number if suffix not in suffixes]
    names = [str(path) for path in found]
    images = ImageDataset(folder, names, _Files(folder, names), None, None, class_order)
    if kinds:
        skipped = len(files) - len(found)
        images = _noting(images, f"{folder}: {count(skipped, 'file')} not read: {shorten(kinds, 10)}")
    unplaced = next((path for path in found if len(path.parts) != 2), None)
    if labeled and unplaced:
        raise RequestError(f"{folder} has no labels: expected one folder per class, but there is {folder / unplaced}")
    if unplaced or not classes:
        return images
    ordered = sorted(classes, key=natural_key if class_order == "natural" else None)
    index_of = {name: index for index, name in enumerate(ordered)}
    labels = [index_of[path.parts[0]] for path in found]
    filled = set(labels)
    if empty := [name for name in ordered if index_of[name] not in filled]:
        what = "class folders" if len(empty) > 1 else "class folder"
        images = _noting(
            images, f"{folder}: no readable pictures in the {what} {shorten(empty, 10)}; each still counts as a class"
        )
    # macOS writes an accent as a character of its own, which labels do not.
    class_names = tuple(unicodedata.normalize("NFC", name) for name in ordered)
    return dataclasses.replace(images, labels=labels, class_names=class_names)


def open_pictures(paths: Sequence[Path]) -> ImageDataset:
    """These files, named by their paths, whatever their suffixes; none is opened before it is asked for."""
    names = [str(path) for path in paths]
    return ImageDataset(Path(), names, _Files(Path(), names), None, None)


def _noting(images: ImageDataset, note: str) -> ImageDataset:
    return dataclasses.replace(images, notes=(*images.notes, note))


def _walk(folder: Path) -> tuple[list[str], list[Path]]:
    """The names of the class folders, and every file in `folder` and below."""
    around = {_identity(each) for each in (folder.resolve(), *folder.resolve().parents)}
    entries = [entry for entry in _entries(folder) if not entry.is_dir() or _identity(entry) not in around]
    classes = [entry for entry in entries if entry.is_dir()]
    entered = around.union(map(_identity, classes))
    files = [Path(entry) for entry in entries if not entry.is_dir()]
    files += (file for each in classes for file in _files(Path(each), entered))
    return [entry.name for entry in classes], files


def natural_key(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers within names by their value: 2 before 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), part) if index % 2 else (0, part) for index, part in enumerate(parts)]


def _files(folder: Path, entered: set[tuple[int, int]]) -> Iterator[Path]:
    """Files and dangling links in `folder` and below; folders in `entered` are skipped, and others added to it."""
    for entry in _entries(folder):
        if not entry.is_dir():
            yield Path(entry)
        elif (identity := _identity(entry)) not in entered:
            entered.add(identity)
            yield from _files(Path(entry), entered)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            every = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise RequestError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    return [entry for entry in every if not entry.name.startswith(".") and entry.name.lower() not in _LEFT_BEHIND]


def _identity(folder: Path | os.DirEntry[str]) -> tuple[int, int]:
    status = Path(folder).stat()  # an entry's own knows no numbers on Windows
    return status.st_dev, status.st_ino
