"""The browser app on a server of the test's own, opened in a browser that nobody sees."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mobilevit_converters.tflite.runtimes.chromium import SOFTWARE_GPU, Browser, find_browser

from mobilevit_sdk.apps.export import export_site
from mobilevit_sdk.apps.site import CONTENT_TYPES, HEADERS, build_site
from mobilevit_sdk.artifacts.artifact import find_artifacts
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.parity.device import device_runs, parse_device_report
from mobilevit_sdk.parity.outcome import judge_runs

Answer = tuple[int, dict[str, Any]]


def write_site(folder: Path, *artifacts: Path, reports: bool = True) -> Path:
    """What `mobilevit phone --export` writes; with `reports`, what it serves. Verifications take 3 times, not 50."""
    site = build_site(find_artifacts(artifacts), takes_reports=reports)
    export_site(site, folder)
    verification = folder / "src/verification.js"
    counts = r"^const (SAMPLES|WITH_PREPROCESSING) = \d+;$"
    text, found = re.subn(counts, r"const \1 = 3;", verification.read_text(), flags=re.MULTILINE)
    assert found == 2
    verification.write_text(text)
    return folder


class Site(ThreadingHTTPServer):
    """Serves a folder below a token, and hands what is posted to `on_report`."""

    daemon_threads = True

    def __init__(self, folder: Path, on_report: Callable[[bytes], Answer] = lambda report: (404, {})) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.on_report, self.root = folder, on_report, "/token/"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_address[1]}{self.root}index.html"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        path = self.server.folder / self.path.removeprefix(self.server.root)
        if path.is_file():
            self._answer(200, path.read_bytes(), CONTENT_TYPES.get(path.suffix, "application/octet-stream"))
        else:
            self._answer(404, b"", "text/plain")

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.server.on_report(content)
        self._answer(status, json.dumps(answer).encode(), "application/json")

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *ignored: Any) -> None:
        """Nothing."""


class Command:
    """The command that waits for reports: it judges them by the artifact, as `mobilevit phone` does."""

    def __init__(self, artifact: Path) -> None:
        self.artifact, self.reports = artifact, list[bytes]()
        self.answers: list[tuple[int, dict[str, Any]] | Exception] = []  # instead of a judgment, one after the other

    def __call__(self, report: bytes) -> tuple[int, dict[str, Any]]:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        self.reports.append(report)
        try:
            outcome = judge_runs(device_runs(self.artifact, parse_device_report(report)))
        except RequestError as error:
            return 400, {"error": str(error)}
        return 200, {"passed": outcome.passed, "verdicts": [verdict.to_json() for verdict in outcome.verdicts]}


class Page:
    """A page as on a phone of `width` x `height` points. What goes wrong in it unseen is in `complaints`."""

    def __init__(
        self,
        url: str,
        *,
        width: int = 412,
        height: int = 915,
        dark: bool = False,
        gpu: bool = True,
        flags: tuple[str, ...] = (),
    ) -> None:
        self.complaints: list[str] = []
        program = find_browser()
        assert program is not None
        self._browser = Browser(program, (*(SOFTWARE_GPU if gpu else ()), *flags), self._hear)
        self._session = self._browser.open("about:blank")
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.command(f"{domain}.enable")
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.go(url)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *raised: object) -> None:
        self._browser.close()

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def go(self, url: str) -> None:
        """Open an address, until its model is loaded or an error stands on the screen."""
        self.command("Page.navigate", url=url)
        if url != "about:blank":
            self.wait("document.body?.dataset.ready || document.querySelector('#error')?.hidden === false")

    def evaluate(self, expression: str) -> Any:
        found = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"]["exception"].get("description"))
        return found["result"].get("value")

    def wait(self, predicate: str) -> None:
        """Until a JavaScript expression is true. A minute or two on a busy machine is fine; nine are a failure."""
        self.evaluate(f"""new Promise((done, fail) => {{
            const end = performance.now() + 540_000;
            const look = () => {{
                if ({predicate}) done();
                else if (performance.now() < end) setTimeout(look, 20);
                else fail(new Error(document.body.innerText));
            }};
            look();
        }})""")

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, label: str) -> None:
        """Press the visible button with these words."""
        self.evaluate(
            "[...document.querySelectorAll('button, a.button')].find((each) => each.checkVisibility() && "
            f"each.textContent.trim().startsWith({json.dumps(label)})).click()"
        )

    def text(self, selector: str = "body") -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def error(self) -> str | None:
        """The line of the alert, once one is shown."""
        self.wait("!document.querySelector('#error').hidden")
        return self.text("#error span")

    def verify(self) -> str:
        """Verify on every accelerator, until the report's fate is known; what the screen then says."""
        self.click("#tab-verify")
        self.press("Verify")
        self.wait("!document.querySelector('#panel-verify .button.main').disabled")
        return self.text("#panel-verify")

    def classes(self, screen: str) -> dict[str, float]:
        """The classes on a screen with their shares, once they are there; none beside an error."""
        self.wait(f"document.querySelector('#panel-{screen} .classes li') || !document.querySelector('#error').hidden")
        rows = self.evaluate(
            f"[...document.querySelectorAll('#panel-{screen} .classes li')].map((row) => row.innerText.split('\\n'))"
        )
        return {row[0]: float(row[1].rstrip("%")) / 100 for row in rows}

    def choose_photo(self, path: Path) -> None:
        root = self.command("DOM.getDocument")["root"]["nodeId"]
        node = self.command("DOM.querySelector", nodeId=root, selector="input[type=file]:not([capture])")["nodeId"]
        self.command("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def fake_camera(self, photo: Path) -> None:
        """From now on the camera shows a photograph. The browser's own fake devices do not always start."""
        encoded = base64.b64encode(photo.read_bytes()).decode()
        self.evaluate(f"""(async () => {{
            const image = new Image();
            image.src = "data:image/jpeg;base64,{encoded}";
            await image.decode();
            navigator.mediaDevices.getUserMedia = async () => {{
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [image.width, image.height];
                const context = canvas.getContext("2d");
                const stream = canvas.captureStream();
                const draw = () => {{
                    context.drawImage(image, 0, 0);
                    if (stream.active) setTimeout(draw, 50);
                }};
                draw();
                return stream;
            }};
        }})()""")

    def refuse_camera(self, reason: str) -> None:
        """From now on the camera is refused, with the browser's name for the reason."""
        refuse = f"throw new DOMException('no', {json.dumps(reason)})"
        self.evaluate(f"void (navigator.mediaDevices.getUserMedia = async () => {{ {refuse}; }})")

    def picture(self, *, whole: bool = False) -> bytes:
        """A PNG of what is on the screen, or of the whole page."""
        self.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 400))))"
        )
        return base64.b64decode(self.command("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def _hear(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
