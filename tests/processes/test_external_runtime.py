"""A runtime in another program: what it answers, and how its crash, its silence and its nonsense are told."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
from pathlib import Path

import clocks
import numpy as np
import pytest

from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.processes.external_runtime import ExternalRuntime

PROLOGUE = """
import os, struct, sys
from clocks import stall, stay
def send(kind, payload=b"", length=None):
    os.write(1, struct.pack("<4sI", kind, len(payload) if length is None else length) + payload)
def receive():
    kind, length = struct.unpack("<4sI", sys.stdin.buffer.read(8))
    assert kind == b"IMAG"
    return sys.stdin.buffer.read(length)
"""
IMAGE = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)


def start(program: str, *, timeout: float = 60, classes: int = 2) -> ExternalRuntime:
    """A worker whose program is Python, with the two ends of the protocol at hand."""
    command = [sys.executable, "-c", PROLOGUE + textwrap.dedent(program)]
    environment = os.environ | {"PYTHONPATH": str(Path(clocks.__file__).parent)}
    return ExternalRuntime("the runtime", command, classes=classes, timeout=timeout, environment=environment)


@pytest.fixture
def timers(tmp_path, monkeypatch):
    timers = clocks.Timers(tmp_path)
    monkeypatch.setattr(threading, "Timer", timers)
    return timers


def test_images_arrive_bit_by_bit_in_their_order_and_so_do_the_scores():
    worker = start("""
        send(b"REDY")
        while True:
            pixels = struct.unpack("<12f", receive())
            send(b"SCOR", struct.pack("<2f", pixels[1], sum(pixels)))
    """)
    np.testing.assert_array_equal(worker(IMAGE), np.float32([1, 66]))
    np.testing.assert_array_equal(worker(IMAGE.transpose(3, 1, 2, 0)), np.float32([3, 66]))  # not contiguous
    third = np.full_like(IMAGE, np.float32(1) / 3)
    assert worker(third)[0].tobytes() == third[0, 0, 0, 1].tobytes()


def test_scores_that_are_no_numbers_are_handed_on_as_they_are():
    worker = start("""
        send(b"REDY"); receive()
        send(b"SCOR", struct.pack("<2f", float("nan"), float("-inf")))
    """)
    assert str(worker(IMAGE)) == "[ nan -inf]"


@pytest.mark.parametrize("when", ["at the start", "at an image"])
def test_a_refused_file_is_the_files_fault_with_the_programs_reason(when):
    ready = "" if when == "at the start" else 'send(b"REDY"); receive()'
    with pytest.raises(ArtifactError, match=r"^the runtime: Didn't find op 'X' Are you using an old binary\?$"):
        start(f"""
            {ready}
            send(b"FAIL", b"Didn't find op 'X'\\n  Are you using an old binary?")
        """)(IMAGE)


@pytest.mark.parametrize("ready", ["", 'send(b"REDY"); receive()'], ids=["at the start", "at an image"])
@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("os.kill(os.getpid(), 11)", "the process died of SIGSEGV"),
        ("os.abort()", "the process died of SIGABRT"),
        ("sys.exit(3)", "the process ended early with exit code 3"),
        ("os.close(1); stay()", "the process died of SIGKILL"),  # it says nothing more, and stays
    ],
)
def test_a_crash_is_told_with_its_signal_and_the_last_words(end, told, ready):
    with pytest.raises(ToolchainError, match=rf"^the runtime: {told}: last words$"):
        start(f"""
            print("first\\nlast words", file=sys.stderr, flush=True)
            {ready}
            {end}
        """)(IMAGE)


@pytest.mark.parametrize(
    "program",
    [
        "{}",
        'send(b"REDY"); receive(); {}',
        'send(b"REDY"); receive(); send(b"SCOR", b"1234", length=8); {}',
        'os.write(1, b"R"); {}',
    ],
    ids=["at the start", "at an image", "amid the scores", "amid a header"],
)
def test_a_hang_ends_after_the_timeout(program, timers):
    with pytest.raises(ToolchainError, match=r"^the runtime: no answer within 2 seconds$"):
        start(program.format(f"stall({str(timers.pipe)!r})"), timeout=2)(IMAGE)
    assert set(timers.seconds) == {2}


def test_a_program_that_reads_no_image_is_not_waited_for(timers):
    worker = start(f'send(b"REDY"); os.read(0, 1); stall({str(timers.pipe)!r})', timeout=2)
    with pytest.raises(ToolchainError, match="no answer within 2 seconds"):
        worker(np.zeros((1, 1024, 1024, 3)))  # more than a pipe holds


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (
            'os.write(1, b"INFO: Created TensorFlow Lite XNNPACK delegate")',
            "49 4e 46 4f 3a 20 43 72, not 0 bytes of REDY",
        ),
        ('send(b"SCOR", bytes(8))', "53 43 4f 52 08 00 00 00, not 0 bytes of REDY"),
        ('send(b"REDY"); receive(); send(b"REDY")', "52 45 44 59 00 00 00 00, not 8 bytes of SCOR"),
        ('send(b"REDY"); receive(); send(b"SCOR", bytes(12))', "53 43 4f 52 0c 00 00 00, not 8 bytes of SCOR"),
        ('send(b"REDY"); receive(); send(b"SCOR", length=2**32 - 1)', "53 43 4f 52 ff ff ff ff, not 8 bytes of SCOR"),
        ('send(b"FAIL", length=2**32 - 1)', "46 41 49 4c ff ff ff ff, not 0 bytes of REDY"),
    ],
)
def test_garbage_is_told_and_never_taken_for_scores(program, found):
    with pytest.raises(ToolchainError, match=f"^the runtime: it answered {found}"):
        start(f"{program}; stay()")(IMAGE)


def test_after_a_failure_it_stays_ended():
    worker = start('send(b"REDY"); receive(); send(b"SCOR"); stay()')
    for message in ("it answered", "the runtime has ended"):
        with pytest.raises(ToolchainError, match=message):
            worker(IMAGE)


def test_a_program_that_is_not_there_is_one_line():
    with pytest.raises(ToolchainError, match=r"^the runtime does not start: .*no_such_program"):
        ExternalRuntime("the runtime", ["/no_such_program"], classes=1, timeout=1, environment={})


def test_the_program_ends_with_the_worker(tmp_path: Path):
    worker = start(f"""
        open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
        send(b"REDY"); stay()
    """)
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)
    del worker
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
