"""One display for every command: rows on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass

import pytest
from rich.console import Console
from rich.segment import Segment

from mobilevit_sdk.cli import display
from mobilevit_sdk.progress import Step


@pytest.fixture
def plain():
    return Console(file=io.StringIO(), width=100)


def lines(console):
    """What was written, without the seconds that every line of progress begins with."""
    return [line.partition(" s  ")[2] or line for line in console.file.getvalue().splitlines()]


def test_a_terminal_has_a_row_for_each_task_with_a_bar_for_what_is_counted():
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)
    with display.Display(terminal) as shown:
        shown(Step("convert", task="tflite fp32"))
        shown(Step("epoch 2/9", 30, 90, detail="loss 1.5"))
        shown(Step("failed", task="coreml fp16", status="failed"))
        shown.line("epoch 2 is done")
    drawn = terminal.file.getvalue()
    for text in ("━", "epoch 2/9", "33%", "loss 1.5", "tflite fp32  convert", "✗", "epoch 2 is done"):
        assert text in drawn, text


@pytest.mark.parametrize("width", [60, 80, 110, 160])
def test_a_row_keeps_its_task_and_stage_at_every_width(width):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with display.Display(terminal) as shown:
        shown(Step("bias correction", 12, 28, task="executorch-coreml int8-dynamic", detail="3:20 left"))
        shown(Step("calibrate", 5, 64, task="tflite int8", detail="stages.3.1.transformer.2.attention"))
        rows = "".join(part.text for row in terminal.render_lines(shown._rows) for part in [*row, Segment.line()])
    whole = ("executorch-coreml int8-dynamic  bias correction", "3:20 left", "tflite int8  calibrate", "43%", "8%")
    assert all(text in rows for text in (*whole, "stages.3.1.transformer.2.attention"))
    assert ("━" in rows) == (width >= 110)
    assert max(map(len, rows.splitlines())) <= width
    assert len(rows.splitlines()) == (2 if width >= 110 else 4 if width == 60 else 3)


def test_without_a_terminal_each_stage_of_each_task_is_one_line(plain):
    with display.Display(plain) as shown:
        shown(Step("waiting", task="tflite fp32", status="waiting"))
        for stage in ("deploy", "convert", "convert"):
            shown(Step(stage, task="tflite fp32"))
            shown(Step(stage, task="coreml fp16"))
        shown(Step("done", task="tflite fp32", status="done"))
    assert lines(plain) == [
        "tflite fp32: deploy",
        "coreml fp16: deploy",
        "tflite fp32: convert",
        "coreml fp16: convert",
        "tflite fp32: done",
    ]


def test_what_is_counted_is_a_line_now_and_then(plain, monkeypatch):
    with display.Display(plain) as shown:
        shown(Step("epoch 2/9", 10, 90))
        monkeypatch.setattr(display, "PLAIN_LINE_EVERY_SECONDS", 0.0)
        shown(Step("epoch 2/9", 30, 90, detail="loss 1.5"))
        shown.line("epoch 2 is done")
    assert lines(plain) == ["epoch 2/9: 33% · loss 1.5", "epoch 2 is done"]


def test_what_is_counted_says_how_long_its_stage_will_still_take(plain, monkeypatch):
    clock = iter([0.0, 100.0, 101.0, 110.0, 111.0])
    monkeypatch.setattr(display, "PLAIN_LINE_EVERY_SECONDS", 0.0)
    with display.Display(plain) as shown:
        monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
        monkeypatch.setattr(shown, "_write", lambda step: plain.print(step.stage, step.done, step.detail))
        shown(Step("calibrate", 0, 40))  # at 0 s
        shown(Step("calibrate", 10, 40))  # at 100 s
        shown(Step("judge", 5, 20))
        shown(Step("judge", 8, 20))  # three in nine seconds
        shown(Step("judge", 9, 20, detail="9 right"))
    assert [line.strip() for line in plain.file.getvalue().splitlines()] == [
        "calibrate 0 0 of 40",
        "calibrate 10 10 of 40 · 0:05:00 left",
        "judge 5 5 of 20",
        "judge 8 8 of 20 · 0:00:36 left",
        "judge 9 9 right",
    ]


@dataclass(frozen=True, kw_only=True)
class Richer(Step):
    """A step with facts of its own."""

    loss: float


def test_a_step_may_carry_more_and_travels_between_processes(plain):
    step = Richer("epoch 1/9", loss=0.5)
    assert pickle.loads(pickle.dumps(step)) == step
    with display.Display(plain) as shown:
        shown(step)
    assert lines(plain) == ["epoch 1/9"]
