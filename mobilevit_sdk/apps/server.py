"""The web server behind `mobilevit phone`: a table of pages, and one address that takes device reports.

It stands in a network of strangers for as long as a command runs. Whatever does not know the token learns nothing, what
a browser on another site sends is refused, and headers, bodies, times and connections are bounded.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from mobilevit_sdk.apps.network import Origin
from mobilevit_sdk.apps.site import HEADERS, INDEX, REPORTS, Page, Site
from mobilevit_sdk.formats.toolchain import import_optional
from mobilevit_sdk.parity.device import MAX_BYTES

if TYPE_CHECKING:
    from aiohttp import web


@dataclass(frozen=True)
class Limits:
    """What one client may take."""

    connections: int = 64  # open at a time; a browser opens six
    idle_seconds: float = 20.0  # until the header of a request is complete
    body_seconds: float = 120.0  # until a report is complete
    write_seconds: float = 60.0  # until a client has read the next part of an answer
    shutdown_seconds: float = 2.0  # for answers that are being written when the server ends
    reports_at_once: int = 4  # that are being received
    bytes_of_report: int = MAX_BYTES


@dataclass(frozen=True)
class Answer:
    """The answer to a report: an HTTP status and a JSON object."""

    status: int
    document: dict[str, object]


@dataclass(frozen=True)
class Request:
    """What a listener learns of a page that was asked for."""

    path: str
    client: str  # IP address
    headers: dict[str, str]  # by lowercase name


class Refusal(Exception):
    """Why a request is not answered."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class PhoneServer:
    """Answers `/TOKEN/PATH` with the site's pages and hands device reports to `take`.

    `visited` hears of every page that is served, `failed` of an error that is this program's own.
    """

    def __init__(
        self,
        site: Site,
        origin: Origin,
        token: str,
        *,
        take: Callable[[bytes], Awaitable[Answer]],
        visited: Callable[[Request], None],
        failed: Callable[[str], None],
        limits: Limits,
    ) -> None:
        self._pages = {"": site.pages[INDEX], **site.pages}
        self._origin, self._token = origin, token.encode()
        self._take, self._visited, self._failed = take, visited, failed
        self._limits = limits
        self._receiving = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._web = import_optional("aiohttp", "aiohttp.web", extra="phone")

    @asynccontextmanager
    async def running(self, listening: socket.socket, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
        """Serve on a listening socket until the block ends; then every connection is closed, and the socket too."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._lost_connection)
        server = self._web.Server(
            self._respond,
            access_log=None,
            logger=_silent_logger(),
            keepalive_timeout=self._limits.idle_seconds,
            lingering_time=self._limits.shutdown_seconds,
            auto_decompress=False,
        )

        def protocol() -> asyncio.Protocol:
            if len(server.connections) >= self._limits.connections:
                return _Refused()
            made: asyncio.Protocol = server()
            return made

        seconds = self._limits.idle_seconds if tls else None
        acceptor = await loop.create_server(protocol, sock=listening, ssl=tls, ssl_handshake_timeout=seconds)
        try:
            yield
        finally:
            acceptor.close()
            server.pre_shutdown()  # connections without a request
            await server.shutdown(self._limits.shutdown_seconds)

    async def received(self) -> None:
        """Wait until no report is being received or judged."""
        await self._idle.wait()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return self._error(refusal.status, str(refusal), refusal.headers)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            self._failed(f"internal error, please report it: {type(error).__name__}: {error}")
            return self._error(500, "internal error", {})

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        if hosts != [self._origin.authority]:  # another name for this address: a page elsewhere has bound it to itself
            raise Refusal(421, "this server has another name")
        path = self._path(request.raw_path)
        if path is None:
            raise Refusal(404, "not found")
        if path == REPORTS:
            if request.method != "POST":
                raise Refusal(405, "device reports are posted", Allow="POST")
            return await self._receive(request)
        page = self._pages.get(path)
        if page is None:
            raise Refusal(404, "not found")
        if request.method != "GET":
            raise Refusal(405, "pages are read with GET", Allow="GET")
        if request.can_read_body:
            raise Refusal(400, "a request with GET has no body")
        self._visited(Request(path, request.remote or "", {k.lower(): v for k, v in request.headers.items()}))
        return await self._send(request, page, path)

    def _path(self, target: str) -> str | None:
        """The page that a request asks for, below the token; None for what has not the token or is not plain."""
        parts = target.partition("?")[0].split("/", 2)
        if len(parts) != 3 or parts[0]:
            return None
        if not secrets.compare_digest(parts[1].encode("utf-8", "replace"), self._token):
            return None
        try:
            decoded = [unquote_to_bytes(part).decode() for part in parts[2].split("/")]
        except UnicodeDecodeError:
            return None
        return None if any("/" in part for part in decoded) else "/".join(decoded)

    async def _send(self, request: web.BaseRequest, page: Page, path: str) -> web.StreamResponse:
        """Send a page part by part, so that a client which does not read holds no more than one of them."""
        response = self._web.StreamResponse(headers={**HEADERS, "Content-Type": page.content_type})
        if path in ("", INDEX):
            response.headers["Accept-CH"] = "Sec-CH-UA-Model, Sec-CH-UA-Platform-Version"
        response.content_length = len(page.content)
        try:
            await asyncio.wait_for(response.prepare(request), self._limits.write_seconds)
            parts = io.BytesIO(page.content)
            while part := parts.read(1 << 18):
                await asyncio.wait_for(response.write(part), self._limits.write_seconds)
        except asyncio.TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client does not read") from None
        return response

    async def _receive(self, request: web.BaseRequest) -> web.Response:
        headers, limit = request.headers, self._limits.bytes_of_report
        if headers.getall("Origin", []) != [str(self._origin)]:
            raise Refusal(403, "only the page of this server posts reports")
        if request.content_type != "application/json":
            raise Refusal(415, "a device report is application/json")
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refusal(415, "a device report is not compressed")
        if (request.content_length or 0) > limit:
            raise Refusal(413, f"a device report has at most {limit} bytes")
        if self._receiving >= self._limits.reports_at_once:
            raise Refusal(503, "other phones are sending reports; try again", Retry_After="5")
        self._receiving += 1
        self._idle.clear()
        try:
            body = await asyncio.wait_for(_read(request, limit), self._limits.body_seconds)
            answer = await self._take(body)
        except asyncio.TimeoutError:
            raise Refusal(408, "the report did not arrive in time; send it again") from None
        finally:
            self._receiving -= 1
            if not self._receiving:
                self._idle.set()
        return self._json(answer.status, answer.document)

    def _error(self, status: int, reason: str, headers: dict[str, str]) -> web.Response:
        response = self._json(status, {"error": reason})
        response.headers.update(headers)
        response.force_close()
        return response

    def _json(self, status: int, document: dict[str, object]) -> web.Response:
        made: web.Response = self._web.Response(
            status=status,
            body=json.dumps(document, allow_nan=False).encode(),
            headers={**HEADERS, "Content-Type": "application/json"},
        )
        return made

    def _lost_connection(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Say what is this program's own error; that a handshake failed or a client left is daily business."""
        error = context.get("exception")
        if error is not None and not isinstance(error, OSError | EOFError):  # ssl.SSLError is an OSError
            self._failed(f"internal error, please report it: {type(error).__name__}: {error}")


class _Refused(asyncio.Protocol):
    """A connection beyond the bound."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


async def _read(request: web.BaseRequest, limit: int) -> bytes:
    from aiohttp.web import RequestPayloadError

    body = bytearray()
    try:
        async for part in request.content.iter_any():
            body += part
            if len(body) > limit:
                raise Refusal(413, f"a device report has at most {limit} bytes")
    except RequestPayloadError:
        raise Refusal(400, "the body of the request is malformed") from None
    return bytes(body)


def _silent_logger() -> logging.Logger:
    """For aiohttp, which writes tracebacks about what clients send."""
    logger = logging.Logger("mobilevit_sdk.apps.server")
    logger.addHandler(logging.NullHandler())
    return logger
