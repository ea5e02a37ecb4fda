"""Work in a process of its own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mobilevit_sdk.errors import CheckpointError, RequestError, ToolchainError
from mobilevit_sdk.processes.child import emit, run_in_child
from mobilevit_sdk.processes.process import peak_memory_bytes


def noisy_double(value):
    print("python noise")
    os.system("echo native noise")
    emit(value + 1)
    return value * 2


def die(number):
    print("last words", file=sys.stderr)
    sys.stderr.flush()
    os.kill(os.getpid(), number)


def hang_after(words):
    for word in range(words):
        emit(word)
    time.sleep(600)


def talk(words, pause):
    for word in range(words):
        time.sleep(pause)
        emit(word)
    return words


def refuse(kind):
    raise kind("first line\nsecond line")


def fill_the_disk(path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # the same kind of error, without filling anything
    path.write_bytes(bytes(100))


def write_pid_and_sleep(path):
    path.write_text(str(os.getpid()))
    time.sleep(60)


def test_results_and_events_come_back_whatever_the_child_prints(capfd):
    events = []
    assert run_in_child(noisy_double, 4, on_event=events.append) == 8
    assert events == [5]
    assert capfd.readouterr() == ("", "")


def test_large_requests_and_answers_pass_whole():
    assert run_in_child(len, bytes(20_000_000)) == 20_000_000
    assert len(run_in_child(bytes, 20_000_000)) == 20_000_000


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_an_error_with_the_signal_and_the_last_words(number):
    with pytest.raises(ToolchainError, match=rf"died of {number.name}: last words"):
        run_in_child(die, number)


def test_errors_of_the_sdk_keep_their_kind_and_others_become_one_line():
    with pytest.raises(CheckpointError, match="first line"):
        run_in_child(refuse, CheckpointError)
    with pytest.raises(ToolchainError, match="ValueError: first line second line"):
        run_in_child(refuse, ValueError)


def test_a_full_disk_is_the_users_to_mend_and_no_fault_of_the_toolchain(tmp_path):
    with pytest.raises(RequestError, match=r"cannot write .*: File too large"):
        run_in_child(fill_the_disk, tmp_path / "file")


def test_the_child_ends_with_its_parent(tmp_path):
    pid_file = tmp_path / "pid"
    program = (
        "import pathlib, test_child, mobilevit_sdk.processes.child as c;"
        f"c.run_in_child(test_child.write_pid_and_sleep, pathlib.Path({str(pid_file)!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as parent:
        until(lambda: pid_file.exists() and pid_file.read_text())
        parent.kill()
    until(lambda: not is_running(int(pid_file.read_text())))


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_peak_of_a_child_is_not_that_of_its_parent():
    ballast = np.ones(60_000_000)  # 480 MB
    assert run_in_child(peak_memory_bytes) < ballast.nbytes < peak_memory_bytes()


def test_a_child_that_says_nothing_is_stopped_and_what_it_said_was_heard():
    heard = []
    with pytest.raises(ToolchainError, match=r"^no answer for 3 s"):
        run_in_child(hang_after, 2, on_event=heard.append, timeout=3)
    assert heard == [0, 1]


def test_a_child_that_goes_on_talking_may_take_longer_than_the_patience_for_one_word():
    assert run_in_child(talk, 12, 0.5, timeout=5) == 12
