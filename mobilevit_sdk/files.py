"""Files and folders: written so that nobody ever sees half of one, and told apart by their hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from mobilevit_sdk.errors import RequestError


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
