"""A stand-in for the Hugging Face hub: it keeps what is uploaded, and answers with it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Hub(ThreadingHTTPServer):
    """Answers what `create_repo`, `upload_folder` and `hf_hub_download` ask, and keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.repositories: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        if "/resolve/" not in self.path:
            self._answer({"id": "someone/birds", "sha": "0" * 40, "siblings": []})
            return
        name = self.path.partition("?")[0].split("/resolve/")[1].partition("/")[2]
        content = self.server.files.get(name)
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("ETag", hashlib.sha256(content or b"").hexdigest())
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content or b"")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers["Authorization"])
        path = self.path.partition("?")[0]
        if self.server.status != 200:
            self._answer({"error": "no"}, self.server.status)
        elif path == "/api/repos/create":
            self.server.repositories.append(json.loads(body))
            self._answer({"url": f"{self.server.url}/someone/birds"})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            asked = [each["path"] for each in json.loads(body)["files"]]
            self._answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]})
        elif "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = {"commitUrl": f"{self.server.url}/someone/birds/commit/{'1' * 40}", "commitOid": "1" * 40}
            self._answer(commit | {"pullRequestUrl": None})
        else:
            self._answer({"error": f"unexpected {path}"}, 404)

    def _answer(self, document: Any, status: int = 200) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def standing_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub's own library talks to the stand-in within the block."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "hf_standin")
    with Hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
