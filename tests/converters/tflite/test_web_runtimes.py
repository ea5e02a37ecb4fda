"""LiteRT.js in a browser that nobody sees: its answers, what it refuses, and how its failures are told."""

from __future__ import annotations

import json
import os
import queue
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clocks import Timers
from damage import with_operators_of_version
from mobilevit_converters.tflite import converter
from mobilevit_converters.tflite.runtimes import chromium, litertjs, web
from mobilevit_converters.tflite.runtimes.browser_program import Job, Server
from phone_files import SharedFiles

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.demos import demo_folder
from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.formats.runtime import LoadedArtifact
from mobilevit_sdk.parity import verify

RUNTIMES = {runtime.name: runtime for runtime in converter.runtimes if runtime.name.startswith("litert-web")}
NAMES = sorted(RUNTIMES)
AVAILABLE = RUNTIMES["litert-web"].availability()
needs_browser = pytest.mark.skipif(not AVAILABLE, reason=f"litert-web: {AVAILABLE.reason}")


@pytest.fixture(scope="module")
def artifacts(phone_files: SharedFiles) -> list[Artifact]:
    """A small network in float32 and float16."""
    return [phone_files.artifact("tflite", precision) for precision in ("fp32", "fp16")]


def load(name: str, path: Path) -> LoadedArtifact:
    return RUNTIMES[name].load(path)


@needs_browser
@pytest.mark.parametrize("name", NAMES)
def test_each_answers_as_pytorch_in_both_precisions(name, artifacts):
    verdicts = verify(artifacts, runtimes=[name])
    assert [(verdict.status, verdict.reason) for verdict in verdicts] == [("passed", None)] * 2
    assert verdicts[0].agreement.sqnr_db.worst >= 90


def test_ordinary_verifications_start_no_browser(artifacts, monkeypatch):
    monkeypatch.setattr(chromium, "find_browser", lambda: pytest.fail("a browser was looked for"))
    assert not {verdict.runtime for verdict in verify(artifacts[0], runtimes=["litert-cpu"])} & set(NAMES)


@needs_browser
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_it_cannot_run_is_refused_with_the_reason(name, artifacts, tmp_path):
    path = with_operators_of_version(99, artifacts[0], tmp_path)
    with pytest.raises(ArtifactError, match=r"LiteRT\.js does not take the file on (wasm|webgpu)|some operators stay"):
        load(name, path)


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_file_does_not_reach_the_browser(name, tmp_path, monkeypatch):
    monkeypatch.setattr(chromium, "find_browser", lambda: pytest.fail("a browser was looked for"))
    (path := tmp_path / "model.tflite").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(ArtifactError, match="is not a TFLite model"):
        load(name, path)


@needs_browser
def test_a_browser_without_webgpu_is_no_fault_of_the_file(artifacts, monkeypatch):
    monkeypatch.setattr(web.LiteRTWebGPURuntime, "flags", lambda self: ("--disable-features=WebGPU", "--disable-gpu"))
    with pytest.raises(ToolchainError, match=r"no WebGPU|no GPU"):
        load("litert-webgpu", artifacts[0].path)


def profiles(folder: Path) -> list[Path]:
    return list(folder.glob("mobilevit-browser-*"))


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A path that leaves room for the browser's socket below it, whose whole path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="web-") as folder:
        yield Path(folder)


@needs_browser
def test_browser_and_profile_end_with_the_runtime(artifacts, short_folder, monkeypatch):
    """The shell that started the browser removes the profile after it, and only then closes its end of a pipe."""
    monkeypatch.setenv("TMPDIR", str(short_folder))
    os.mkfifo(short_folder / "alive")
    script = short_folder / "browser"
    script.write_text(f'#!/bin/sh\nexec 9>{short_folder}/alive\nexec "{chromium.find_browser()}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv(chromium.CHOICE, str(script))
    ended = threading.Thread(target=(short_folder / "alive").read_bytes)
    ended.start()
    answer = load("litert-web", artifacts[0].path)
    assert np.isfinite(answer(artifacts[0].reference().cases[0].image)).all()
    assert len(profiles(short_folder)) == 1
    del answer
    ended.join(timeout=1800)
    assert not ended.is_alive()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'No usable sandbox!' >&2; exit 1", "the browser: .* exit code 1: No usable sandbox!"),
        ("exit 0", "the browser: .*ended early with exit code 0"),
        ("printf 'nonsense\\0' >&4; exec sleep 1800", "the browser: it says b'nonsense'"),
        ('exec {python} -c "import clocks; clocks.stall({pipe!r})"', "no answer within 900 seconds"),
    ],
    ids=["sandbox", "ends", "nonsense", "hangs"],
)
def test_a_browser_that_fails_is_told(script, told, artifacts, tmp_path, monkeypatch):
    timers = Timers(tmp_path)
    monkeypatch.setattr(threading, "Timer", timers)
    monkeypatch.setattr(litertjs, "web_files", lambda: tmp_path)
    program = tmp_path / "browser"
    program.write_text("#!/bin/sh\n" + script.format(python=sys.executable, pipe=str(timers.pipe)) + "\n")
    program.chmod(0o755)
    monkeypatch.setenv(chromium.CHOICE, str(program))
    with pytest.raises(ToolchainError, match=f"^LiteRT.js on wasm: .*{told}"):
        load("litert-web", artifacts[0].path)


def test_a_browser_that_never_answers_is_told_with_what_it_was_asked(tmp_path, monkeypatch):
    waited = []

    class Silence:
        """A queue into which nothing comes, however long one waits."""

        def get(self, timeout: float) -> None:
            waited.append(timeout)
            raise queue.Empty

        def put(self, answer: object) -> None:
            """The end of the browser."""

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = tmp_path / "browser"
    program.write_text("#!/bin/sh\nexec cat <&3 >/dev/null\n")
    program.chmod(0o755)
    browser = chromium.Browser(str(program))
    monkeypatch.setattr(queue, "SimpleQueue", Silence)
    try:
        with pytest.raises(ToolchainError, match=r"^the browser: no answer to Page\.navigate within 600 seconds$"):
            browser.call("Page.navigate", url="about:blank")
    finally:
        browser.close()
    assert waited == [600.0]


def test_an_answer_that_comes_too_late_does_not_end_the_browser(tmp_path, monkeypatch):
    """It answers the first command only once there is a second one."""
    program = tmp_path / "browser"
    program.write_text(
        f"#!{sys.executable}\nimport os\ngot = b''\nwhile got.count(b'\\0') < 2:\n    got += os.read(3, 4096)\n"
        'for number in (1, 2):\n    os.write(4, b\'{"id": %d, "result": {"n": %d}}\\0\' % (number, number))\n'
        "os.read(3, 1)\n"
    )
    program.chmod(0o755)
    browser = chromium.Browser(str(program))
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr(chromium, "_PATIENCE", 0.0)
            with pytest.raises(ToolchainError, match="no answer to First within 0 seconds"):
                browser.call("First")
        assert browser.call("Second") == {"n": 2}
    finally:
        browser.close()


def test_what_is_missing_is_said_in_the_order_in_which_it_is_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(chromium.CHOICE, raising=False)
    runtime = RUNTIMES["litert-web"]
    assert runtime.availability().reason == "not installed: mobilevit doctor --install litert-web"
    monkeypatch.setattr(litertjs, "installed_version", lambda: "2.5.3")
    monkeypatch.setattr(chromium, "APPLICATIONS", ())
    assert runtime.availability().reason == (
        "no Chromium or Chrome is on PATH; install one, or name its program in MOBILEVIT_BROWSER"
    )
    monkeypatch.setenv(chromium.CHOICE, "netscape")
    assert runtime.availability().reason == "MOBILEVIT_BROWSER names no program: netscape"
    (tmp_path / "netscape").write_text("#!/bin/sh\n")
    (tmp_path / "netscape").chmod(0o755)
    assert runtime.availability().version == "2.5.3"


@pytest.fixture
def server(tmp_path):
    """The server of the page, with a model and a secret beside it."""
    (tmp_path / "model.tflite").write_bytes(b"the model")
    (tmp_path / "secret.js").write_text("mine")
    (tmp_path / "litert").mkdir()
    demo = str(demo_folder("web_demo"))
    job = Job(
        str(tmp_path / "model.tflite"),
        ((None, (1, 2, 2, 3)),),
        "fp32",
        "wasm",
        ("logits",),
        demo,
        str(tmp_path / "litert"),
        "",
        (),
    )
    server = Server(job)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server: Server, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_address[1]}{path}", data=body)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_page_gets_its_job_its_model_and_the_images(server):
    root = server.root
    assert ask(server, f"{root}model") == (200, b"the model")
    status, job = ask(server, f"{root}job.json")
    given = {"accelerator": "wasm", "precision": "fp32", "outputs": ["logits"]}
    given["entries"] = [{"name": None, "shape": [1, 2, 2, 3]}]
    assert (status, json.loads(job)) == (200, given)
    assert b"Engine" in ask(server, f"{root}src/engine.js")[1]
    server.images.put(b"pixels")
    assert ask(server, f"{root}image") == (200, b"pixels")
    assert ask(server, f"{root}scores", b"1234")[0] == 200
    assert server.answers.get_nowait() == ("scores", b"1234")


@pytest.mark.parametrize(
    "path",
    ["/model", "/", "/other-token/model", "{root}../secret.js", "{root}litert/../secret.js", "{root}litert//etc"],
)
def test_nobody_else_gets_anything(path, server):
    assert ask(server, path.format(root=server.root)) == (404, b"")
    assert ask(server, "/model", b"1234") == (404, b"")
    assert server.answers.empty()
