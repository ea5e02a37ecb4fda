"""Nobody ever sees half of a file or a folder."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mobilevit_sdk import files
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import cache_folder, decode_json, hash_and_size, is_there, replacing


def test_a_file_and_a_folder_appear_whole_and_replace_what_was_there(tmp_path):
    for text in ("first", "second"):
        with replacing(tmp_path / "file") as fresh:
            fresh.write_text(text)
        with replacing(tmp_path / "folder") as fresh:
            fresh.mkdir()
            (fresh / text).write_text(text)
    assert (tmp_path / "file").read_text() == "second"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["second"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def write_half(path):
    path.write_text("half")
    raise ZeroDivisionError


def test_a_failure_keeps_what_was_there_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file") as fresh:
        write_half(fresh)
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_kill_keeps_what_was_there_and_the_next_run_sweeps_up(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").write_text("old")
    program = (
        "import os, pathlib, signal; from mobilevit_sdk.files import cache_folder, replacing\n"
        f"with replacing(pathlib.Path({str(target)!r})) as fresh:\n"
        "    fresh.mkdir(); (fresh / 'half').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert [path.name for path in target.iterdir()] == ["old"]
    assert len(list(tmp_path.iterdir())) == 2  # what the killed run had begun
    with replacing(target) as fresh:
        fresh.mkdir()
        (fresh / "new").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert [path.name for path in target.iterdir()] == ["new"]


def test_a_folder_moved_aside_by_a_killed_run_comes_back(tmp_path):
    leftover = tmp_path / f".folder.{files._machine()}.999999999.x.partial" / "previous"
    leftover.mkdir(parents=True)
    (leftover / "good").write_text("good")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "folder"):
        raise ZeroDivisionError
    assert (tmp_path / "folder" / "good").read_text() == "good"


def test_what_another_running_process_writes_is_left_alone(tmp_path):
    theirs = tmp_path / f".folder.{files._machine()}.{os.getppid()}.x.partial"
    theirs.mkdir()
    with replacing(tmp_path / "folder") as fresh:
        fresh.mkdir()
    assert theirs.exists()


@pytest.mark.parametrize("change", ["machine", "container", "boot", "no mark"])
def test_what_another_machine_writes_is_left_alone(tmp_path, monkeypatch, change):
    """Its process number may be free here, or stand for something else."""

    def mark(boot="a", container="1"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_text", lambda self, **options: boot)
            patched.setattr(Path, "readlink", lambda self: f"pid:[{container}]")
            return compute()

    compute = files._machine.__wrapped__  # without its cache
    here = mark()
    monkeypatch.setattr(files, "_machine", lambda: here)
    there = {"machine": mark(boot="b"), "container": mark(container="2"), "boot": mark(boot="c")}.get(change, "")
    assert here != there
    theirs = tmp_path / ".".join(part for part in (".folder", there, "999999999", "x", "partial") if part)
    (theirs / "folder").mkdir(parents=True)
    with replacing(tmp_path / "folder") as fresh:
        fresh.mkdir()
    assert (theirs / "folder").exists()


class NativeError(RuntimeError):
    """As PyTorch's writer raises where a disk is full: it knows nothing of the reason."""


@pytest.mark.parametrize("where", ["errno", "cause", "text", "disk"])
def test_a_full_disk_is_said_whatever_a_writer_makes_of_it(tmp_path, monkeypatch, where):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail():
        if where == "errno":
            raise full
        if where == "cause":
            raise NativeError("enforce fail") from full
        raise NativeError(f"I/O error: {full.strerror}" if where == "text" else "unexpected pos 576 vs 534")

    if where == "disk":
        usage = shutil.disk_usage(tmp_path)._replace(free=0)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    said = pytest.raises(RequestError, match=r"cannot write .*file: No space left on device; free some space")
    with said, replacing(tmp_path / "file"):
        fail()
    assert not list(tmp_path.iterdir())


def test_other_errors_of_writers_stay_what_they_are(tmp_path):
    with pytest.raises(NativeError), replacing(tmp_path / "file"):
        raise NativeError("unexpected pos 576 vs 534")


@pytest.mark.parametrize("blocked", ["/proc/nothing/file", "/dev/null/folder/file"])
def test_an_unwritable_folder_is_one_line(blocked):
    with pytest.raises(RequestError, match="cannot write into"), replacing(Path(blocked)):
        pass


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands for the full disk: the same kind of error, without root."""
    program = (
        "import pathlib, resource; from mobilevit_sdk.files import cache_folder, replacing\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"with replacing(pathlib.Path({str(tmp_path / 'file')!r})) as fresh:\n"
        "    fresh.write_bytes(bytes(5000))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "RequestError: cannot write" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder_is_where_xdg_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, expected in (
        ("/somewhere", "/somewhere"),
        ("relative", f"{tmp_path}/.cache"),
        ("", f"{tmp_path}/.cache"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert str(cache_folder()) == f"{expected}/mobilevit-sdk"


def test_the_hash_of_a_folder_is_the_documented_one(tmp_path: Path) -> None:
    contents = {"a/b": b"1", "a-b": b"22", "a/B": b"", "Z/ö/x.bin": b"333"}  # a-b before a/b as text
    for path, content in contents.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    in_order = b"Z/\xc3\xb6/x.bin\x00333" + b"a/B\x00" + b"a/b\x001" + b"a-b\x0022"
    assert hash_and_size(tmp_path) == (hashlib.sha256(in_order).hexdigest(), 6)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' + "[" * 100_000, "[1", '{"a": "\ud800"}', "{} {}"])
def test_json_that_cannot_be_read_is_a_value_error_however_deeply_it_is_nested(content):
    with pytest.raises(ValueError, match=r"."):
        decode_json(content.encode("utf-8", "surrogatepass"), dict[str, Any])


def test_a_name_that_no_file_system_takes_is_not_there():
    assert not is_there(Path("a" * 5000))
    assert not is_there("\0")
    assert is_there(__file__)


def test_an_error_is_one_line_whatever_names_it_quotes():
    error = RequestError("field `a\nb\x1b[31m\u2028c`")
    assert str(error) == f"{error}" == "field `a b\N{REPLACEMENT CHARACTER}[31m c`"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert error.text == "field `a\nb\x1b[31m\u2028c`"
