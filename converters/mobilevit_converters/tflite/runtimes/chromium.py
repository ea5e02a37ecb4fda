"""A Chromium without a window, driven through a pair of pipes: it ends when they do, however this process ends."""

from __future__ import annotations

import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.processes.process import describe_exit, stderr_tail

CHOICE = "MOBILEVIT_BROWSER"  # the environment variable that names the program
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPLICATIONS = tuple(
    Path(f"/Applications/{name}.app/Contents/MacOS/{name}") for name in ("Google Chrome", "Chromium", "Microsoft Edge")
)
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    *("--no-first-run", "--no-default-browser-check", "--password-store=basic", "--use-mock-keychain"),
    # It asks nothing of any network: only of this machine.
    *("--disable-background-networking", "--disable-component-update", "--disable-domain-reliability", "--no-pings"),
    *("--disable-sync", "--disable-default-apps", "--disable-extensions", "--disable-breakpad", "--no-proxy-server"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # A page that nobody sees computes at full speed, whatever else the machine does.
    *("--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-hang-monitor"),
    "--disable-backgrounding-occluded-windows",
    *("--disable-dev-shm-usage", "--mute-audio", "--hide-scrollbars"),
)
# WebGPU on SwiftShader, which every Chromium brings along and which needs no GPU.
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
HARDWARE_GPU = ("--enable-unsafe-webgpu", "--enable-features=Vulkan")

# Chromium reads commands from descriptor 3 and answers on 4. The shell outlives this process, and removes the profile.
_LAUNCH = (
    'profile=$1 in=$2 out=$3; shift 3; "$@" 3<"/dev/fd/$in" 4>"/dev/fd/$out"; code=$?; rm -rf "$profile"; exit $code'
)
_GRACE = 10.0  # seconds to end by itself
_PATIENCE = 600.0  # seconds for an answer: a page may compute for long, but a browser that hangs never answers


def find_browser() -> str | None:
    """The program of a Chromium or Chrome: that of MOBILEVIT_BROWSER, else the first on PATH or among applications."""
    if chosen := os.environ.get(CHOICE):
        return shutil.which(chosen)
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or next((str(path) for path in APPLICATIONS if path.is_file()), None)


def missing_browser() -> str | None:
    """Why no browser can be started here, and what to do; None where one can."""
    if platform.system() == "Windows":
        return "a browser is driven on Linux and macOS alone"
    if find_browser():
        return None
    if chosen := os.environ.get(CHOICE):
        return f"{CHOICE} names no program: {chosen}"
    return f"no Chromium or Chrome is on PATH; install one, or name its program in {CHOICE}"


class Browser:
    """A running Chromium with a profile of its own. `on_event` hears every event, in a thread of the browser's."""

    def __init__(
        self, program: str, flags: Sequence[str] = (), on_event: Callable[[dict[str, Any]], None] = lambda event: None
    ) -> None:
        self._on_event = on_event
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._lock, self._ids, self._ended = threading.Lock(), 0, False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
        self._nonsense: str | None = None
        self._profile = profile = tempfile.mkdtemp(prefix="mobilevit-browser-")
        theirs_in, self._commands = os.pipe()
        self._messages, theirs_out = os.pipe()
        as_root = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
        command = [program, *FLAGS, *as_root, *flags, f"--user-data-dir={profile}", "about:blank"]
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _LAUNCH, "sh", profile, str(theirs_in), str(theirs_out), *command],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        threading.Thread(target=self._listen, daemon=True).start()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Give a command of the DevTools protocol and return its result.

        Raises ToolchainError where the browser refuses it, ends, or does not answer within ten minutes.
        """
        answer: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        with self._lock:
            if self._ended:
                raise self.death()
            self._ids += 1
            self._answers[self._ids] = answer
            message: dict[str, Any] = {"id": self._ids, "method": method, "params": parameters}
            message |= {"sessionId": session} if session else {}
            with suppress(BrokenPipeError):  # then `_listen` hears the end
                _write(self._commands, json.dumps(message).encode() + b"\0")
        try:
            got = answer.get(timeout=_PATIENCE)
        except queue.Empty:  # an answer that comes later still has its place, and is nonsense to nobody
            raise ToolchainError(f"the browser: no answer to {method} within {_PATIENCE:.0f} seconds") from None
        if got is None:
            raise self.death()
        if "error" in got:
            raise ToolchainError(f"the browser refuses {method}: {got['error'].get('message')}")
        result: dict[str, Any] = got["result"]
        return result

    def open(self, url: str, **context: Any) -> str:
        """Open a page in a tab of its own; the session in which it takes commands."""
        target = self.call("Target.createTarget", url=url, **context)["targetId"]
        session: str = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Inspector.enable", session)  # which tells when the page crashes
        return session

    def death(self) -> ToolchainError:
        """How it ended, or why it was ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        code = self._process.returncode
        how = self._nonsense or ("it hangs" if code is None else describe_exit(code))
        return ToolchainError(f"the browser: {how}{stderr_tail(self._log)}")

    def close(self) -> None:
        """End it, and with it its profile."""
        with suppress(OSError):
            os.close(self._commands)
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def _listen(self) -> None:
        pending = b""
        with os.fdopen(self._messages, "rb", buffering=0) as stream:
            while chunk := stream.read(1 << 16):
                *messages, pending = (pending + chunk).split(b"\0")
                try:
                    for message in messages:
                        self._hear(json.loads(message))
                except (ValueError, LookupError, TypeError):
                    self._nonsense = f"it says {messages[0][:80]!r}"
                    self._kill()
                    break
        with self._lock:
            self._ended = True
            waiting = list(self._answers.values())
        for answer in waiting:
            answer.put(None)
        self._on_event({"method": "Browser.ended"})

    def _hear(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers.pop(message["id"]).put(message)
        else:
            self._on_event(message)


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
