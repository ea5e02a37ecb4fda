"""Work in a process of its own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from clocks import Timers, stall, stay

from mobilevit_sdk.errors import CheckpointError, RequestError, ToolchainError
from mobilevit_sdk.processes.child import emit, run_in_child
from mobilevit_sdk.processes.process import peak_memory_bytes


def noisy_double(value):
    print("python noise")
    os.system("echo native noise")
    emit(value + 1)
    return value * 2


def waiting_policy():
    return os.environ.get("OMP_WAIT_POLICY")


def die(number):
    print("last words", file=sys.stderr)
    sys.stderr.flush()
    os.kill(os.getpid(), number)


def stall_after(words, pipe):
    for word in range(words):
        emit(word)
    stall(pipe)


def talk(words):
    for word in range(words):
        emit(word)
    return words


def refuse(kind):
    raise kind("first line\nsecond line")


def fill_the_disk(path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # the same kind of error, without filling anything
    path.write_bytes(bytes(100))


def tell_pid_and_stay(pipe):
    """The other end of the pipe ends with this process, however that ends."""
    os.write(os.open(pipe, os.O_WRONLY), f"{os.getpid()}\n".encode())
    stay()


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


def test_a_full_disk_is_the_users_to_fix_and_not_a_fault_of_the_toolchain(tmp_path):
    with pytest.raises(RequestError, match=r"cannot write .*: File too large"):
        run_in_child(fill_the_disk, tmp_path / "file")


def test_the_child_ends_with_its_parent(tmp_path):
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    program = (
        "import pathlib, test_child, mobilevit_sdk.processes.child as c;"
        f"c.run_in_child(test_child.tell_pid_and_stay, pathlib.Path({str(pipe)!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as parent, pipe.open() as child:
        assert int(child.readline()) != parent.pid
        parent.kill()
        assert child.read() == ""  # returns once the child is gone, which would stay for half an hour
    assert parent.returncode == -signal.SIGKILL


def test_the_peak_of_a_child_is_not_that_of_its_parent():
    ballast = np.ones(60_000_000)  # 480 MB
    assert run_in_child(peak_memory_bytes) < ballast.nbytes < peak_memory_bytes()


@pytest.fixture
def timers(tmp_path, monkeypatch):
    timers = Timers(tmp_path)
    monkeypatch.setattr(threading, "Timer", timers)
    return timers


def test_a_child_that_says_nothing_is_stopped_and_what_it_said_was_heard(timers):
    heard = []
    with pytest.raises(ToolchainError, match=r"^no answer for 3 s"):
        run_in_child(stall_after, 2, timers.pipe, on_event=heard.append, timeout=3)
    assert heard == [0, 1]


def test_each_word_of_a_child_has_the_whole_timeout(timers):
    assert run_in_child(talk, 12, timeout=5) == 12
    assert timers.seconds == [5] * 13  # twelve words and the answer


@pytest.mark.parametrize(("own", "expected"), [(None, ("PASSIVE", None)), ("ACTIVE", ("ACTIVE", None))])
def test_threads_do_not_spin_but_where_time_is_measured(own, expected, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if own:
        monkeypatch.setenv("OMP_WAIT_POLICY", own)
    assert (run_in_child(waiting_policy), run_in_child(waiting_policy, threads=2, spin=True)) == expected
