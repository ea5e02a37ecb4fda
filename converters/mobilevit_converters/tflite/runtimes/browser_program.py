"""A program that runs a .tflite file in a browser: it serves the browser app's engine to a page that nobody sees.

    python -m mobilevit_converters.tflite.runtimes.browser_program JOB

JOB is JSON: see `Job`. It speaks the frames of `ExternalRuntime`; an image is the place of an entry and then the values
of its input, all float32. The page asks for images and posts scores to a server
on this machine's loopback, whose addresses begin with a token.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import select
import struct
import sys
import threading
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mobilevit_converters.tflite.runtimes.chromium import Browser
from mobilevit_sdk.errors import ToolchainError

_HEADER = struct.Struct("<4sI")
_TYPES = {".html": "text/html", ".js": "text/javascript", ".json": "application/json", ".wasm": "application/wasm"}
_POLL = 20.0  # seconds that the page's question for an image may stay open
_MAX_ANSWER = 1 << 26  # bytes


@dataclass(frozen=True)
class Job:
    """A file, the accelerator that runs it, and where the rest is."""

    file: str
    entries: tuple[tuple[str | None, tuple[int, ...]], ...]  # signature and shape of its input; None: the only one
    precision: str  # of its weights: fp32 or fp16
    accelerator: str  # wasm or webgpu
    outputs: tuple[str, ...]  # in the order of answers
    demo: str  # the folder of the browser app
    litert: str  # the folder of LiteRT.js
    browser: str
    flags: tuple[str, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Server(ThreadingHTTPServer):
    """Serves the page, and passes images and scores between it and this process. Nobody without the token gets any."""

    daemon_threads = True

    def __init__(self, job: Job) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.job, self.root = job, f"/{secrets.token_urlsafe(24)}/"
        self.images: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[tuple[str, bytes]] = queue.Queue()  # what the page posted, and where

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{self.root}runner.html"

    def file(self, name: str) -> Path | None:
        """The file that a page's request names; None where there is none."""
        if name == "model":
            return Path(self.job.file)
        folder, rest = (self.job.litert, name[7:]) if name.startswith("litert/") else (self.job.demo, name)
        parts = rest.split("/")
        safe = all(part and not part.startswith(".") for part in parts)
        path = Path(folder, *parts)
        return path if safe and path.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        name = self._name()
        if name == "image":
            try:
                self._answer(200, self.server.images.get(timeout=_POLL))
            except queue.Empty:
                self._answer(204)
        elif name == "job.json":
            job = self.server.job
            given = {name: getattr(job, name) for name in ("accelerator", "precision", "outputs")}
            given["entries"] = [{"name": name, "shape": shape} for name, shape in job.entries]
            self._answer(200, json.dumps(given).encode(), "application/json")
        elif name and (path := self.server.file(name)):
            self._answer(200, path.read_bytes(), _TYPES.get(path.suffix, "application/octet-stream"))
        else:
            self._answer(404)

    def do_POST(self) -> None:
        name, size = self._name(), int(self.headers.get("Content-Length", "0"))
        if name is None or not 0 <= size <= _MAX_ANSWER:
            self.close_connection = True
            self._answer(404)
            return
        self.server.answers.put((name, self.rfile.read(size)))
        self._answer(200)

    def _name(self) -> str | None:
        root = self.server.root
        return self.path.removeprefix(root) if self.path.startswith(root) else None

    def _answer(self, status: int, content: bytes = b"", kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *ignored: Any) -> None:
        """Nothing: the log is for what goes wrong."""


def main(job: Job) -> None:
    frames, images = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server = Server(job)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def hear(event: dict[str, Any]) -> None:
        if event["method"] in ("Browser.ended", "Inspector.targetCrashed"):
            server.answers.put((event["method"], b""))

    browser = Browser(job.browser, job.flags, hear)
    try:
        browser.open(server.page)
        _answer(server, browser, "ready", b"REDY", frames)
        while header := images.read(_HEADER.size):
            server.images.put(images.read(_HEADER.unpack(header)[1]))
            _answer(server, browser, "scores", b"SCOR", frames)
    finally:
        browser.close()


def _answer(server: Server, browser: Browser, wanted: str, kind: bytes, frames: Any) -> None:
    """Wait for the page and write what it says as a frame. Raises ToolchainError where it is no answer."""
    name, content = server.answers.get()
    if name == "refused":
        kind, content = b"FAIL", content[:4096]
    elif name == "Browser.ended":
        raise browser.death()
    elif name == "Inspector.targetCrashed":
        raise ToolchainError("the page crashed, as it does when memory runs out")
    elif name != wanted:
        raise ToolchainError(content.decode(errors="replace") if name == "failed" else f"the page posts {name!r}")
    frames.write(_HEADER.pack(kind, len(content)) + content)
    frames.flush()


def _end_with_parent() -> None:
    """End with the parent, even amid a computation that never ends; the browser's pipes end too, and so does it."""
    pipe = select.poll()
    pipe.register(0, 0)  # nothing but its hanging up
    pipe.poll()
    os._exit(1)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    try:
        main(Job(**given))
    except ToolchainError as error:
        sys.exit(f"{error}")
