"""A full disk behind a file that no artifact is made of, such as a log or a scratch folder."""

from __future__ import annotations

import errno
import os

import pytest
from click.testing import CliRunner

from mobilevit_sdk.cli.common import verb


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_with_the_exit_code_of_a_wrong_request(number: int) -> None:
    def write(as_json: bool) -> None:
        try:
            raise OSError(number, os.strerror(number), "/scratch/log.txt")
        except OSError as error:
            raise RuntimeError("unexpected pos 576 vs 534") from error

    done = CliRunner().invoke(verb("write", "")(write))
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert said == f"error: cannot write a file: {os.strerror(number)}; free some space, or write to another disk"
