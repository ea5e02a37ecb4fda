"""Whatever stands at the other end of its streams, a command ends with its own exit code, or says what it is."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from terminal import PROGRAM, in_shell

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.mark.parametrize("reader", ["true", "head -1"])
@pytest.mark.parametrize("command", ["mobilevit list", "mobilevit list --json", "mobilevit convert --help"])
def test_a_reader_that_leaves_changes_nothing(command, reader, tmp_path):
    done = in_shell(f"{command} | {reader}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "<&-", "1>&- 2>&-", "1>&- 2>&- <&-"])
def test_a_closed_stream_changes_nothing(closed, tmp_path):
    done = in_shell(f"mobilevit list {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("mobilevit_xxs" in done.stdout) == ("1>&-" not in closed)
    assert in_shell(f"mobilevit inspect nowhere {closed}", tmp_path).returncode == 2


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path):
    """What a library then printed would land in the file."""
    program = "import sys; from mobilevit_sdk.cli.streams import open_standard_streams; open_standard_streams();"
    program += "print(open('f', 'w').fileno() > 2, file=sys.stderr)"
    assert in_shell(f'"$PYTHON" -c "{program}" 1>&- <&-', tmp_path).stderr == "True\n"


@needs_full
@pytest.mark.parametrize("command", ["list", "list --json", "--help", "convert --help", "--version"])
def test_a_full_disk_behind_standard_output_is_one_line(command, tmp_path):
    done = in_shell(f"mobilevit {command} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "error: cannot write to standard output: No space left on device\n",
    )


@needs_full
def test_a_full_disk_behind_standard_error_costs_only_messages(tmp_path):
    done = in_shell("mobilevit inspect nowhere.tflite --json 2> /dev/full", tmp_path)
    assert json.loads(done.stdout)["exit_code"] == done.returncode == 2


def waiting(pipe: int) -> int:
    """Bytes in a pipe that nobody has read."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.skipif(not hasattr(fcntl, "F_GETPIPE_SZ"), reason="needs Linux's pipes")
def test_a_pipe_that_does_not_block_gets_everything(tmp_path):
    """Such as a parent in Node.js gives."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    code = "from mobilevit_sdk.cli.streams import open_standard_streams; open_standard_streams()\n"
    code += "from mobilevit_sdk.cli.common import print_json; print_json(['x' * 80] * 2000)"  # more than a pipe holds
    process = subprocess.Popen([PROGRAM[0], "-c", code], stdout=writing)
    os.close(writing)
    size = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)
    while process.poll() is None and waiting(reading) < size - 4096:  # until there is no room for another page
        time.sleep(0.01)
    with os.fdopen(reading) as stream:
        assert json.load(stream) == ["x" * 80] * 2000
    assert process.wait() == 0


def test_an_error_is_one_line_and_shows_a_path_as_it_is(tmp_path):
    done = in_shell("mobilevit inspect $'two  spaces\\nand \\x1b[2J.tflite'", tmp_path)
    assert done.stderr.startswith("error: two  spaces and \ufffd[2J.tflite does not exist")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "gbk", "utf-8"])
def test_an_encoding_that_lacks_a_character_is_never_an_error(encoding, tmp_path):
    name = "café 猫 \u2028 ✓.tflite"
    done = in_shell(f"mobilevit inspect '{name}' --json", tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert "does not exist" in done.stderr
    assert "internal error" not in done.stderr
    assert name in json.loads(done.stdout)["error"]


USAGE_ERRORS = {
    "an unknown option": ("convert --presicion fp16", "no such option --presicion; did you mean --precision"),
    "an unknown command": ("verfy out", "no such command 'verfy'; did you mean verify"),
    "a command like none": ("frobnicate", "known: apps, bench, bisect, card, compare, convert"),
    "a missing argument": ("verify", "missing argument 'ARTIFACT_OR_DIR...'; see mobilevit verify --help"),
    "a missing option": ("eval", "missing option '--data'; see mobilevit eval --help"),
    "a missing value": ("convert --to", "option '--to' requires an argument"),
    "a value out of range": ("bench x --rounds 0", "invalid value for '--rounds': 0 is not in the range x>=1"),
    "an argument too many": ("list mobilevit", "unexpected extra argument"),
}


@pytest.mark.parametrize("case", USAGE_ERRORS)
def test_a_usage_error_is_one_line_with_a_way_out_and_json_on_request(case, tmp_path):
    arguments, message = USAGE_ERRORS[case]
    done = in_shell(f"mobilevit {arguments}", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    verb, _, rest = arguments.partition(" ")
    done = in_shell(f"mobilevit {verb} --json {rest}", tmp_path)
    document = json.loads(done.stdout)
    assert document["exit_code"] == done.returncode == 2
    assert done.stderr == f"error: {document['error']}\n"
