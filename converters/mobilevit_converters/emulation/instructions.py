"""How many ARM64 instructions an inference executes: exact, the same on every machine, and no latency.

QEMU logs each block of instructions when it translates it, each block that it executes, and each system call. The
blocks between one answer and the next, times their lengths, are what an inference executes. Only code of shared
libraries is logged: the runtime's and the C library's, not a Python that feeds them. A first run, which logs system
calls alone, says where the libraries lie; without randomness of addresses they lie there in the second one too.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mobilevit_converters.emulation.arm64 import EmulatedMachine
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.runtime import InstructionCount, LoadedArtifact

# Addresses and seeds that the emulator chooses are always the same.
_REPEATABLE = ("-R", "64G", "-seed", "1")
_HEADER = 8  # bytes of a frame's header, see `ExternalRuntime`
_CHUNK = 1 << 22  # bytes of the log

_MAPPED = re.compile(rb"mmap\(\w+,(\d+),[A-Z_|]*PROT_EXEC[A-Z_|]*,[A-Z_|]+,\d+,\w+\) = 0x([0-9a-f]+)")  # of a file
_WRITTEN = re.compile(rb"write\((\d+),0x[0-9a-f]+,(\d+)\)")  # its result may not be logged any more
_SPECIAL = (b"IN:", b"(")  # what a part of the log with anything but executed blocks holds: a translation, a call

Load = Callable[[EmulatedMachine], LoadedArtifact]


def count_instructions(machine: EmulatedMachine, load: Load, image: np.ndarray) -> InstructionCount:
    """What the second inference executes, when all that the first one sets up is there.

    `load(machine)` starts an `ExternalRuntime` with the machine's commands. Raises ToolchainError when the log does not
    account for the answers, and whatever loading raises.
    """
    with _logged(machine, "strace") as (traced, log):
        load(traced)(image)
    code = log.code
    if not code:
        raise ToolchainError("the emulator's log names no shared library: its instructions cannot be counted")
    filters = ",".join(f"0x{address:x}+0x{size:x}" for address, size in code)
    with _logged(machine, "in_asm,exec,nochain,strace", "-dfilter", filters) as (traced, log):
        predict = load(traced)
        scores = [predict(image) for _ in range(2)]
        del predict  # ends the program, and with it the log
    if log.code != code:
        raise ToolchainError("the emulated program's libraries lie elsewhere in each run: nothing was counted")
    return InstructionCount(dict(log.answers(len(scores), _HEADER + scores[0].nbytes)[-1]))


@contextmanager
def _logged(machine: EmulatedMachine, what: str, *options: str) -> Iterator[tuple[EmulatedMachine, _Log]]:
    """The machine with a log, which is read while the block runs, and complete after it."""
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as folder:
        pipe = Path(folder, "log")
        os.mkfifo(pipe)
        log = _Log()
        reading = threading.Thread(target=log.read, args=(pipe,), daemon=True)
        reading.start()
        try:
            yield replace(machine, options=(*_REPEATABLE, "-d", what, *options, "-D", str(pipe))), log
        finally:
            with suppress(OSError):  # no reader is left; otherwise, a program that never started lets it end
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            reading.join()


@dataclass
class _Segment:
    """What was executed up to a write, which followed: by block."""

    blocks: Counter[bytes]
    file: int  # descriptor
    written: int  # bytes


class _Log:
    """QEMU's log of one run."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int]] = []  # of shared libraries: address and size
        self._translated: dict[int, list[Counter[bytes]]] = {}  # address -> mnemonics of each translation
        self._content: dict[bytes, Counter[bytes]] = {}  # line of an executed block -> mnemonics
        self._blocks: Counter[bytes] = Counter()
        self._segments: list[_Segment] = []
        self._translating: Counter[bytes] | None = None  # mnemonics of a block that was not executed yet

    def read(self, pipe: Path) -> None:
        rest = b""
        with pipe.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                text = rest + chunk
                *lines, rest = text.split(b"\n")
                if self._translating is not None or any(each in text for each in _SPECIAL):
                    for line in lines:
                        self._read(line)
                else:
                    self._blocks.update(lines)  # almost always, and many times as fast
        if b"Trace" not in rest:  # the last answer may be all that its reader waits for before it ends the program
            self._read(rest)

    def _read(self, line: bytes) -> None:
        call, executed, rest = line.partition(b"Trace ")  # a call of another thread, which waits, may stand before it
        if executed:
            block = executed + rest
            self._blocks[block] += 1
            if block not in self._content and (known := self._translated.get(_address(block))):
                self._content[block] = known[-1]
            self._translating = None
        elif line.startswith(b"IN:"):
            self._translating = Counter()
        elif line.startswith(b"0x") and self._translating is not None:
            address, _, instruction = line.partition(b":")
            if not self._translating:
                self._translated.setdefault(int(address, 16), []).append(self._translating)
            self._translating[instruction.split()[1]] += 1
        if written := _WRITTEN.search(call):
            self._segments.append(_Segment(self._blocks, int(written[1]), int(written[2])))
            self._blocks = Counter()
        elif mapped := _MAPPED.search(call):
            self.code.append((int(mapped[2], 16), int(mapped[1])))

    def answers(self, count: int, size: int) -> list[Counter[str]]:
        """What was executed for each of `count` answers of `size` bytes, by mnemonic. Raises ToolchainError."""
        written = Counter[int]()
        for segment in self._segments:
            written[segment.file] += segment.written
        files = [file for file, total in written.items() if total == _HEADER + count * size]
        if len(files) != 1:
            raise ToolchainError("the emulator's log does not account for the answers: nothing was counted")
        found = [Counter[str]() for _ in range(count + 1)]
        position = 0
        for segment in self._segments:
            # The first frame is the header that says the file is loaded.
            place = 0 if position < _HEADER else 1 + (position - _HEADER) // size
            if segment.file == files[0]:
                position += segment.written
            for line, times in segment.blocks.items():
                if not line.startswith(b"Trace "):
                    continue  # the rule before a translation
                content = self._content.get(line)
                if content is None:  # two threads alternated when it was new
                    content, *others = self._translated.get(_address(line), [Counter()])
                    if not content or any(other != content for other in others):
                        raise ToolchainError("the emulator's log leaves open what was executed: nothing was counted")
                for mnemonic, each in content.items():
                    found[place][mnemonic.decode()] += each * times
        return found[1:]


def _address(line: bytes) -> int:
    """Of a block in a line such as `Trace 0: 0x7fe1cc000100 [00001001/00007fe1d979b280/00000001/00000200] `."""
    return int(line.split(b"/", 2)[1], 16)
