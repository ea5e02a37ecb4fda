"""Commands that torchrun starts several times at once."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from mobilevit_sdk.cli import common, main


@pytest.fixture
def of_two(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The second of two processes."""
    monkeypatch.setattr(common, "EQUAL_ERROR_SECONDS", 0.0)
    for name, value in (("LOCAL_RANK", "1"), ("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_command_that_does_not_share_its_work_is_refused(of_two: pytest.MonkeyPatch) -> None:
    of_two.setenv("RANK", "0")
    result = CliRunner().invoke(main, ["list", "--json"])
    assert result.exit_code == 2
    words = "`mobilevit list` runs in one process: start it without torchrun"
    assert json.loads(result.stdout) == {"error": words, "exit_code": 2}
    assert result.stderr == f"error: {words}\n"


def test_other_processes_say_nothing_but_their_own_errors(of_two: pytest.MonkeyPatch) -> None:
    arguments = ["train", "--data", "nowhere", "--test-share", "0.1", "--out", "out", "--json"]
    refused = CliRunner().invoke(main, arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: rank 1: nowhere does not exist")
    assert refused.stderr.count("\n") == 1


def test_a_batch_that_is_too_small_for_the_processes_is_refused_before_images_are_read(
    of_two: pytest.MonkeyPatch,
) -> None:
    of_two.setenv("RANK", "0")
    arguments = ["train", "--data", "nowhere", "--test-share", "0.1", "--out", "out", "--batch-size", "3"]
    refused = CliRunner().invoke(main, arguments)
    words = "a step of 3 images is too small for 2 processes, which take two each: raise --batch-size"
    assert (refused.exit_code, refused.stderr) == (2, f"error: {words}\n")


def test_an_interruption_is_told_once(of_two: pytest.MonkeyPatch) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    command = common.verb("waiting", "Wait.", processes=True)(lambda as_json: interrupt())
    result = CliRunner().invoke(command, [])
    assert (result.exit_code, result.stderr) == (130, "")
