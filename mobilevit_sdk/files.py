"""Files and folders: written so that nobody ever sees half of one, told apart by their hash; text in any Unicode."""

from __future__ import annotations

import codecs
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from mobilevit_sdk.errors import RequestError

# What a file of Unicode text may begin with. UTF-32's little-endian mark begins with UTF-16's, so it stands first.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def read_text(path: Path) -> str:
    """The text of a file that a person may have written: UTF-8, or any Unicode encoding with a byte order mark.

    Windows writes that mark: Notepad before UTF-8, PowerShell's `>` before UTF-16. Line ends stay as they are. Raises
    ValueError for any other encoding, without the path, and OSError for a file that cannot be read.
    """
    content = path.read_bytes()
    mark = next((mark for mark in _BYTE_ORDER_MARKS if content.startswith(mark)), b"")
    encoding = _BYTE_ORDER_MARKS.get(mark, "utf-8")
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        place = f"byte 0x{content[len(mark) + error.start]:02x} at offset {len(mark) + error.start}"
        raise ValueError(f"not {encoding.upper()} text ({place}); save it as UTF-8") from error
    if "\0" in text:
        raise ValueError("not text, or UTF-16 without a byte order mark; save it as UTF-8")
    return text


def cache_folder() -> Path:
    """Where this SDK keeps what it has fetched for the user: the platform's cache folder, or that of XDG_CACHE_HOME.

    Raises RequestError for a user without a home.
    """
    try:
        return platformdirs.user_cache_path("mobilevit-sdk", appauthor=False)
    except RuntimeError as error:
        raise RequestError("there is no home folder for a cache; set XDG_CACHE_HOME") from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a fresh path beside `target` to write a file or a folder to; rename it to `target` when the block succeeds.

    An existing `target` stays until then, and stays for good when the block fails or the process is killed. Raises
    RequestError when the folder cannot be written or is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        workspace = Path(
            tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", suffix=".partial", dir=target.parent)
        )
    except OSError as error:
        raise RequestError(f"cannot write into {target.parent}: {error.strerror or error}") from error
    try:
        fresh = workspace / target.name
        yield fresh
        if fresh.is_dir() and target.is_dir():
            target.rename(workspace / "previous")  # a folder cannot be renamed over a full one
        fresh.replace(target)
    except OSError as error:
        if not target.exists() and (workspace / "previous").exists():
            (workspace / "previous").rename(target)
        raise RequestError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove what killed processes left beside `target`; an earlier folder that one had moved aside comes back."""
    for leftover in target.parent.glob(f".{target.name}.*.*.partial"):
        pid = leftover.name.removeprefix(f".{target.name}.").split(".")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            if (leftover / "previous").exists() and not target.exists():
                (leftover / "previous").rename(target)
            shutil.rmtree(leftover, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def hash_and_size(path: Path) -> tuple[str, int]:
    """SHA-256 and bytes of a file, or of a package folder: the names and contents of its files in sorted order."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest, size = hashlib.sha256(), 0
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
    return digest.hexdigest(), size
