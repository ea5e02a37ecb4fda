"""Files and folders: written so that nobody ever sees half of one, told apart by their hash; text in any Unicode."""

from __future__ import annotations

import codecs
import errno
import glob
import hashlib
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

import msgspec
import platformdirs

from mobilevit_sdk.errors import RequestError

T = TypeVar("T")

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


def decode_json(content: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """What untrusted JSON holds, as msgspec reads it into `kind`.

    Raises ValueError for all that can be wrong with it, also where it is nested so deeply that Python gives up, which
    is a RecursionError by itself.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_file_name(name: str) -> bool:
    """Whether this, from an untrusted file, can only name something in the folder that it is looked up in.

    On any system: `a\\b` and `C:` are no names, since Windows would go elsewhere.
    """
    alone = {PurePosixPath(name).name, PureWindowsPath(name).name} == {name}
    return alone and name not in ("", "..") and "\0" not in name


def is_there(path: Path | str) -> bool:
    """Whether there is a file or a folder; False for a name that no file system takes, where `Path.exists` raises."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """The same for a file alone."""
    return os.path.isfile(path)  # noqa: PTH113


_FULL = {errno.ENOSPC, errno.EDQUOT}
_MIN_FREE_BYTES = 1 << 16  # less is as good as nothing


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
    RequestError when the folder cannot be written or is full, whatever a writer makes of that.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        workspace = Path(
            tempfile.mkdtemp(prefix=f"{_mark(target)}{os.getpid()}.", suffix=".partial", dir=target.parent)
        )
    except OSError as error:
        raise RequestError(f"cannot write into {target.parent}: {full_disk(error) or _reason(error)}") from error
    try:
        fresh = workspace / target.name
        yield fresh
        if fresh.is_dir() and target.is_dir():
            target.rename(workspace / "previous")  # a folder cannot be renamed over a full one
        fresh.replace(target)
    except Exception as error:
        if not target.exists() and (workspace / "previous").exists():
            (workspace / "previous").rename(target)
        reason = None if isinstance(error, RequestError) else full_disk(error, workspace)
        if reason is None and not isinstance(error, OSError):
            raise
        raise RequestError(f"cannot write {target}: {reason or _reason(error)}") from error
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def require_place(folder: Path) -> None:
    """Raise RequestError unless files can be made in `folder`, there or not yet; leaves nothing behind.

    For what works long before it writes.
    """
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        tempfile.TemporaryDirectory(prefix=".mobilevit-", dir=place).cleanup()
    except OSError as error:
        raise RequestError(f"cannot write into {folder}: {full_disk(error) or _reason(error)}") from error


def full_disk(error: BaseException, folder: Path | None = None) -> str | None:
    """In words, that a disk is full, where that is what an error, or what caused it, comes from; else None.

    Native writers lose the reason: PyTorch's and flatbuffers' errors do not name it. With `folder`, where something was
    written until now, a disk without space says it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in _FULL or os.strerror(errno.ENOSPC) in str(cause):
            break
        cause = cause.__cause__ or cause.__context__
    else:
        try:
            if folder is None or shutil.disk_usage(folder).free > _MIN_FREE_BYTES:
                return None
        except OSError:
            return None
    number = getattr(cause, "errno", None)
    return f"{os.strerror(number if number in _FULL else errno.ENOSPC)}; free some space, or write to another disk"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


@cache
def _machine() -> str:
    """Tells the processes that can see each other from those of other machines and containers, and of earlier boots."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        named = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        named = f"{platform.node()} {uuid.getnode()}"
    return hashlib.sha256(named.encode()).hexdigest()[:8]


def _mark(target: Path) -> str:
    """How the names of this machine's work folders for `target` begin."""
    return f".{target.name}.{_machine()}."


def _sweep(target: Path) -> None:
    """Remove what killed processes of this machine left beside `target`; a folder that one had moved aside comes back.

    A process number means nothing elsewhere: what other machines and containers write into a shared folder stays.
    """
    for leftover in target.parent.glob(f"{glob.escape(_mark(target))}*.*.partial"):
        pid = leftover.name.removeprefix(_mark(target)).split(".")[0]
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


def portable(path: str) -> str:
    """A path for a file that travels: one that is absolute tells of this machine, so that only its last part stays."""
    return Path(path).name if Path(path).is_absolute() else path


def hash_and_size(path: Path) -> tuple[str, int]:
    """SHA-256 and bytes of a file, or of a package folder: the names and contents of its files in sorted order.

    docs/guides/artifact-folder.md says it to the letter, for apps that check it.
    """
    files = [path]
    if path.is_dir():  # the order of folders, not that of paths as text, and on Windows the same
        files = sorted((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.relative_to(path).parts)
    digest, size = hashlib.sha256(), 0
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
    return digest.hexdigest(), size


class Address(str):
    """Where images lie when that is not one path: `hf://datasets/...`, `s3://...`, or a pattern of files."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The last part, as of a path."""
        return self.rstrip("/").rpartition("/")[2]


def is_address(source: object) -> bool:
    """Whether this is a URL or a pattern such as `train-*.parquet`, rather than a path."""
    return isinstance(source, str) and ("://" in source or any(sign in source for sign in "*?["))
