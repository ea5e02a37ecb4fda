"""Python packages for another interpreter than this one, put into a folder by this environment's pip."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.processes.process import stderr_tail


def install_wheels(
    requirements: Sequence[str], folder: Path, python_version: str, *, platforms: Sequence[str] = ()
) -> None:
    """Install exactly `requirements`, without their dependencies, into `folder`, for Python `python_version` ("3.11").

    `platforms` are tags such as "manylinux2014_aarch64"; without any, this machine's. pip uses the user's own
    configuration, and checks each file against its index's hash. Raises ToolchainError.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-compile", "--no-deps", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={python_version}"]
    command += [f"--platform={platform}" for platform in platforms]
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(
            [*command, "--target", str(folder), *requirements], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        if done.returncode:
            raise ToolchainError(
                f"pip cannot fetch {', '.join(requirements)} for Python {python_version}{stderr_tail(log)}"
            )
