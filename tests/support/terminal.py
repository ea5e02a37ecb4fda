"""Commands as a user runs them: in a terminal of a given width, and with streams that cannot be written to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = [sys.executable, "-c", "import sys; from mobilevit_sdk.cli import main; main(sys.argv[1:], 'mobilevit')"]


def in_terminal(columns: int, *arguments: str) -> str:
    """What a terminal of this width shows after the command, without colors."""
    import fcntl
    import pty
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdin=follower, stdout=follower, stderr=follower, env=environment | {"TERM": "xterm"}
    )
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 1 << 16)
        except OSError:  # Linux says so that the other end is closed
            break
        if not part:
            break
        written += part
    os.close(leader)
    process.wait()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode()).replace("\r\n", "\n")


def in_shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `mobilevit` is the command; its exit code is that of the line's first command."""
    command = f'mobilevit() {{ "$PYTHON" -c "$PROGRAM" "$@"; }}\n{line}\nexit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PYTHON": sys.executable, "PROGRAM": PROGRAM[2]} | environment,
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
