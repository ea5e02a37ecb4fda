"""A runtime that this Python cannot import: a program in an environment of its own, which answers images over pipes.

Both ends speak in frames: four letters that say what follows, the payload's length in bytes as a little-endian uint32,
and the payload.

    REDY  from the program, once it has loaded the file   empty
    IMAG  from the SDK                                     float32, the image as the file takes it
    SCOR  from the program, one for each image             float32, the scores
    FAIL  from the program, instead of one of its frames   UTF-8, why the file is not for it

What the program writes to standard error is its log. It must end when its standard input does.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.processes.process import Watch, describe_exit, stderr_tail

_HEADER = struct.Struct("<4sI")
_MAX_REASON = 1 << 16  # bytes


class ExternalRuntime:
    """A running program that has loaded a file. Called with an image, it returns `classes` scores, float32.

    Both the constructor and the call raise ArtifactError, with the program's own reason, when it refuses the file, and
    ToolchainError, with the last line of its log, when it dies, does not answer within `timeout` seconds or answers
    anything else. The program ends then, or with this object.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, classes: int, timeout: float, environment: Mapping[str, str]
    ) -> None:
        self._name, self._classes, self._timeout = name, classes, timeout
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment
            )
        except OSError as error:
            raise ToolchainError(f"{name} does not start: {error}") from error
        self._end = weakref.finalize(self, _end, self._process)
        self._exchange(b"", b"REDY", 0)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        pixels = np.ascontiguousarray(image, dtype="<f4").tobytes()
        answer = self._exchange(_HEADER.pack(b"IMAG", len(pixels)) + pixels, b"SCOR", 4 * self._classes)
        return np.frombuffer(answer, dtype="<f4")

    def _exchange(self, request: bytes, kind: bytes, size: int) -> bytes:
        """Send `request` and return the payload of the frame that answers it: `size` bytes of `kind`."""
        if not self._end.alive:
            raise ToolchainError(f"{self._name} has ended")
        watch = Watch(self._process, self._timeout)
        try:
            with watch:  # killing ends the pipes, and with them the waiting
                found, payload = self._converse(request, kind, size)
        except _Garbage as garbage:
            reason = str(garbage)
        except (EOFError, BrokenPipeError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)  # its pipes have ended, and so will it
            self._end()
            ended = describe_exit(self._process.returncode)
            reason = f"no answer within {self._timeout:g} seconds" if watch.fired else ended
        else:
            if found == kind:
                return payload
            self._end()
            raise ArtifactError(f"{self._name}: {' '.join(payload.decode(errors='replace').split())}")
        self._end()
        raise ToolchainError(f"{self._name}: {reason}{stderr_tail(self._log)}")

    def _converse(self, request: bytes, kind: bytes, size: int) -> tuple[bytes, bytes]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request)
        self._process.stdin.flush()
        header = self._process.stdout.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise EOFError
        found, length = _HEADER.unpack(header)
        if (found, length) != (kind, size) and not (found == b"FAIL" and length <= _MAX_REASON):
            raise _Garbage(f"it answered {header.hex(' ')}, not {size} bytes of {kind.decode()}")
        payload = self._process.stdout.read(length)
        if len(payload) < length:
            raise EOFError
        return found, payload


class _Garbage(Exception):
    """Bytes that are not a frame, or a frame of another kind or size than expected."""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # an image that the program did not live to read
                pipe.close()
