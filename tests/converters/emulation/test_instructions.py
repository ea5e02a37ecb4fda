"""Instructions are counted from the emulator's log: exactly those between two answers, or none at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from mobilevit_converters.emulation import instructions
from mobilevit_converters.emulation.instructions import _Log

from mobilevit_sdk.errors import ToolchainError

TRANSLATED = """----------------
IN:
0x7f00001000:  4e22cc20  fmla     v0.4s, v1.4s, v2.4s
0x7f00001004:  54ffffe1  b.ne     #0x7f00001000

"""
LOOP = "Trace 0: 0x7fe1cc000100 [00001001/0000007f00001000/00000001/00000200] \n"
READY, ANSWER = "20 write(1,0xaaab0,8) = 8\n", "20 write(1,0xaaab0,12) = 12\n"
WHOLE = TRANSLATED + LOOP + READY + LOOP * 3 + "20 write(2,0xaa,8) = 8\n" + LOOP * 2 + ANSWER + LOOP * 7 + ANSWER


def read(text: str, folder: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> _Log:
    monkeypatch.setattr(instructions, "_CHUNK", chunk)
    path = folder / "log"
    path.write_text(text, encoding="utf-8")
    log = _Log()
    log.read(path)
    return log


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_what_is_executed_between_answers_is_counted_however_the_log_arrives(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = read(WHOLE, tmp_path, chunk, monkeypatch).answers(2, 12)
    assert (first, second) == ({"fmla": 5, "b.ne": 5}, {"fmla": 7, "b.ne": 7})


def test_the_call_of_a_waiting_thread_takes_no_block_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TRANSLATED + READY + "20 ppoll(0x7f,1,NULL" + LOOP + LOOP + "20 write(1,0xaaab0,12)"  # killed after it
    assert read(text, tmp_path, 50, monkeypatch).answers(1, 12) == [{"fmla": 2, "b.ne": 2}]


@pytest.mark.parametrize("text", [WHOLE.replace(TRANSLATED, ""), WHOLE.removesuffix(ANSWER)])
def test_a_log_that_does_not_tell_all_gives_no_number(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ToolchainError, match="nothing was counted"):
        read(text, tmp_path, 1 << 20, monkeypatch).answers(2, 12)
