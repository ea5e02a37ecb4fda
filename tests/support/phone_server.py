"""`mobilevit phone` for tests: a stub of the browser app, a server in a thread, and clients that may be hostile."""

from __future__ import annotations

import asyncio
import http.client
import queue
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from helpers import tiny_reference, tiny_spec, write_artifact

from mobilevit_sdk.apps import phone, site
from mobilevit_sdk.apps.inbox import Inbox
from mobilevit_sdk.apps.server import Limits
from mobilevit_sdk.artifacts import artifact
from mobilevit_sdk.artifacts.artifact import open_artifact, write_manifest
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.formats.app_input import app_input_of
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.parity import THRESHOLDS

SECONDS = 600.0  # until a test that hangs fails; a busy machine is no reason


def make_artifacts(folder: Path, *names: str) -> list[artifact.Artifact]:
    """Artifacts of the format "fake" in folders of these names, each with a file of its own."""
    reference = tiny_reference()
    made = []
    for number, name in enumerate(names):
        written = write_artifact(folder / name, tiny_spec(), reference)
        written.path.write_bytes(b"phone file %d" % number)
        sha256, size = hash_and_size(written.path)
        fed = app_input_of(written.manifest.inputs, written.manifest.spec.preprocessing)
        manifest = msgspec.structs.replace(written.manifest, sha256=sha256, bytes=size, app_input=fed)
        write_manifest(folder / name, manifest)
        made.append(open_artifact(folder / name))
    return made


class WebRuntime:
    """Of the format "fake"; browsers run it."""

    name, format = "fake-web", "fake"

    def availability(self):
        return Availability("1.0")

    def load(self, path):
        raise NotImplementedError

    def web_files(self):
        raise NotImplementedError


def stub_app(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the browser app two small folders, and "fake" a format that browsers run; where they are."""
    files = {
        "web_demo/index.html": "<!doctype html><title>MobileViT</title>",
        "web_demo/README.md": "not served",
        "web_demo/package.json": "{}",
        "web_demo/.secret.json": "{}",
        "web_demo/tests/test_app.js": "",
        "web_demo/src/app.js": "export {};",
        "web_demo/src/style.css": "",
        "litert/core/index.js": "export {};",
        "litert/core/package.json": '{"version": "2.5.3"}',
        "litert/wasm/litert.wasm": "\0asm",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    class Converter:
        runtimes = (WebRuntime(),)

    monkeypatch.setattr(site, "demo_folder", lambda name: folder / name)
    monkeypatch.setattr(site, "web_files", lambda: folder / "litert")
    monkeypatch.setattr(artifact, "find_converter", lambda *name: Converter)
    return folder


class Serving:
    """`serve` in a thread: a context manager with the address; `result` waits for its end and raises what it raised."""

    def __init__(self, artifacts, out: Path, *, https=False, keep=False, timeout=SECONDS, **limits) -> None:
        self.lines: list[str] = []
        self._address: queue.Queue[str] = queue.Queue()
        self._result: queue.Queue[object] = queue.Queue()
        self._artifacts, self._out = artifacts, out
        self._options = {"https": https, "keep": keep, "timeout": timeout, "limits": Limits(**limits)}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Serving:
        self._thread.start()
        self.address = self._address.get(timeout=SECONDS)
        parts = urlsplit(self.address)
        self.scheme, self.host, self.port, self.path = parts.scheme, parts.hostname, parts.port, parts.path
        return self

    def __exit__(self, *error) -> None:
        self._thread.join(SECONDS)

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def result(self):
        found = self._result.get(timeout=SECONDS)
        if isinstance(found, BaseException):
            raise found
        return found

    def connect(self) -> socket.socket:
        """A connection, through TLS where the server speaks it, without a look at the certificate."""
        plain = socket.create_connection((self.host, self.port), timeout=SECONDS)
        if self.scheme == "http":
            return plain
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(plain)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._loop.call_soon_threadsafe(self._interrupted.set)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, dict]:
        """Status, body and headers of the answer to a request below the token."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)
        connection.sock = self.connect()
        connection.request(method, self.path + path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        found = answer.status, answer.read(), dict(answer.getheaders())
        connection.close()
        return found

    def post(self, content: bytes) -> tuple[int, bytes]:
        """Post a report as the page does."""
        status, body, _ = self.ask("POST", "reports", content, Origin=self.origin, Content_Type="application/json")
        return status, body

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """The bytes of a request with what the server asks for, but for what `headers` replaces; "" leaves one out."""
        all_headers = {
            "Host": f"{self.host}:{self.port}",
            "Origin": self.origin,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items() if value)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def send(self, *parts: bytes) -> bytes:
        """What the server answers to these bytes, until it closes the connection."""
        answer = b""
        with suppress(ConnectionError, ssl.SSLError), self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            while part := connection.recv(1 << 16):
                answer += part
        return answer

    def _run(self) -> None:
        async def opened(address: str) -> None:
            self._loop, self._interrupted = asyncio.get_running_loop(), asyncio.Event()
            self._address.put(address)
            await self._interrupted.wait()
            raise KeyboardInterrupt

        try:
            inbox = Inbox(self._artifacts, self._out, THRESHOLDS, self.lines.append)
            found = phone.serve(
                self._artifacts,
                host="127.0.0.1",
                port=0,
                inbox=inbox,
                opened=opened,
                say=self.lines.append,
                **self._options,
            )
        except BaseException as error:
            found = error
        self._result.put(found)
