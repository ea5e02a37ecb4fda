"""Phones that run artifacts and send back what they computed: over the local network, or over USB."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.apps import network
from mobilevit_sdk.apps.eligibility import refuse_rejected
from mobilevit_sdk.apps.export import export_site
from mobilevit_sdk.apps.inbox import Inbox, Received
from mobilevit_sdk.apps.server import Answer, Limits, PhoneServer, Request
from mobilevit_sdk.apps.site import build_site, find_web_artifacts
from mobilevit_sdk.apps.visitors import Visitors
from mobilevit_sdk.artifacts.artifact import Artifact, ArtifactLike
from mobilevit_sdk.errors import MobileViTError, RequestError, ToolchainError
from mobilevit_sdk.formats.toolchain import import_optional
from mobilevit_sdk.parity import THRESHOLDS, Outcome, Threshold

OUT = "device-reports"
TIMEOUT_SECONDS = 3600.0  # nobody leaves a server open for good

Say = Callable[[str], None]


def _nothing(line: str) -> None:
    pass


@dataclass(frozen=True)
class PhoneResult:
    """What phones reported: verdicts as those of `verify`, and the reports with the files that hold them.

    `error` says why a report could not be kept; it was judged all the same, and has no file.
    """

    outcome: Outcome
    reports: tuple[Received, ...]
    error: MobileViTError | None = None

    def to_json(self) -> dict[str, object]:
        """The document of `phone --json`: that of `verify --json`, with the reports and what went wrong with them."""
        reports = [
            {
                "path": None if each.path is None else str(each.path),
                "artifact": each.report.artifact.name,
                "device": each.report.device.label,
            }
            for each in self.reports
        ]
        went_wrong = {"error": str(self.error), "exit_code": self.error.exit_code} if self.error else {}
        return {**self.outcome.to_json(), "reports": reports, **went_wrong}


def verify_on_phones(
    artifacts: ArtifactLike | Sequence[ArtifactLike],
    *,
    host: str | None = None,
    port: int = 0,
    https: bool = True,
    out: Path | str = OUT,
    keep: bool = False,
    timeout: float = TIMEOUT_SECONDS,
    thresholds: Mapping[str, Threshold] | None = None,
    on_address: Say = print,
    say: Say = _nothing,
) -> PhoneResult:
    """Serve the browser app with these artifacts until phones have reported each of them, and judge the reports.

    `host` is an IP address of this machine, by default the one of its local network; `on_address` gets the address to
    open on the phone, `say` a line for what happens. Without `https`, browsers run WebAssembly on one thread, and no
    WebGPU. Reports are kept in the folder `out`, or in that one .json file. With `keep`, more phones may come, until
    `timeout` seconds have passed or Ctrl-C ends it. A report that cannot be kept is judged, and the result's `error`
    says so. Raises ArtifactError and RequestError for what cannot be served, and ToolchainError where a package is
    missing or no phone reported in time.
    """
    served = find_web_artifacts(artifacts, say)

    async def open_address(address: str) -> None:
        on_address(address)

    return serve(
        served,
        host=host or network.local_address(),
        port=port,
        https=https,
        inbox=Inbox(served, Path(out), thresholds or THRESHOLDS, say),
        keep=keep,
        timeout=timeout,
        opened=open_address,
        say=say,
    )


def export_web_app(artifacts: ArtifactLike | Sequence[ArtifactLike], out: Path | str) -> list[Artifact]:
    """Write the browser app with these artifacts as static files into the folder `out`; the artifacts that it holds.

    Raises ArtifactError where browsers run none of them and for one that was rejected, and RequestError where `out`
    holds something else.
    """
    served = find_web_artifacts(artifacts)
    refuse_rejected(served)
    export_site(build_site(served, takes_reports=False), Path(out))
    return served


def serve(
    artifacts: Sequence[Artifact],
    *,
    host: str,
    port: int,
    https: bool,
    inbox: Inbox,
    keep: bool,
    timeout: float,
    opened: Callable[[str], Awaitable[None]],
    say: Say,
    limits: Limits | None = None,
) -> PhoneResult:
    """Serve until the inbox has a report of each artifact; see `verify_on_phones`.

    `opened` is awaited with the address once it answers, and cancelled when everything is there.
    """
    for package in ("aiohttp", "cryptography") if https else ("aiohttp",):
        import_optional(package, package, extra="phone")
    site = build_site(artifacts, takes_reports=True)
    token = secrets.token_urlsafe(16)
    listening = network.listen(host, port)
    origin = network.origin_of(listening, https=https)
    complete, visitors = asyncio.Event(), Visitors()

    def visited(request: Request) -> None:
        if line := visitors.line(request):
            say(line)

    async def take(content: bytes) -> Answer:
        try:
            document = await asyncio.to_thread(inbox.take, content)
        except RequestError as error:
            return Answer(422, {"error": str(error)})
        if not keep and not inbox.missing():
            complete.set()
        return Answer(200, document)

    async def run() -> None:
        server = PhoneServer(site, origin, token, take=take, visited=visited, failed=say, limits=limits or Limits())
        async with server.running(listening, network.make_tls_context(host) if https else None):
            helper = asyncio.ensure_future(opened(f"{origin}/{token}/"))
            helper.add_done_callback(lambda done: complete.set() if not done.cancelled() and done.exception() else None)
            try:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(complete.wait(), timeout)
                if helper.done():
                    helper.result()  # raises what it raised
                await server.received()  # a second phone that is sending now is judged too
            finally:
                helper.cancel()
                await asyncio.wait([helper])

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        if not keep or not inbox.received:
            raise
    finally:
        listening.close()
    return result_of(inbox, timeout)


def result_of(inbox: Inbox, timeout: float) -> PhoneResult:
    """What came. Raises ToolchainError where nothing did."""
    if not inbox.received:
        raise ToolchainError(f"no phone reported within {timeout:g} seconds; give a longer `timeout`")
    return PhoneResult(inbox.outcome(), tuple(inbox.received), inbox.failure)
