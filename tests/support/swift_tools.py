"""The Swift of this machine, for tests that need a compiler."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from mobilevit_sdk.demos import demo_folder


def swift_or_skip() -> list[str]:
    """What runs a command where `swift` is; skips where `make ios` has not brought one. Fetches nothing."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    command = [str(demo_folder("ios_demo") / "swift-on-debian.sh"), "--no-install"]
    probe = subprocess.run([*command, "true"], capture_output=True, text=True)
    if probe.returncode == 69:
        pytest.skip(probe.stderr.strip())
    assert probe.returncode == 0, probe.stderr
    return command
