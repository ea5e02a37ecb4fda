"""Requests that no honest phone sends, for the server behind `mobilevit phone`."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator

from phone_server import Serving

LIMIT = 1 << 20  # bytes that a report may have on the server of these tests
Parts = tuple[bytes, ...]  # of a request, as they are sent one after the other

METHODS = ["get", "G" * 3000, "GET\t", "\0GET", "GÉT", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "POST"]
CLIMBS = r"""
../ ..%2f %2e%2e/ %2e%2e%2f ..%5c ..\ ....// ..;/ %252e%252e%252f ..%c0%af %00 ./../ %uff0e%uff0e/ file:/// // \\host\
artifacts/../../ artifacts/tiny-fp32/../../../ litert/..%2f..%2f src/../../
"""
NO_PAGES = """
README.md package.json .secret.json tests/test_app.js .git/config config.json/.. index.html/ index.html%00 INDEX.HTML
index.html;x index.html%20 index.html%00.js %69ndex.html%2f artifacts artifacts/ artifacts/tiny-fp32 src % %f %ff%fe *
artifacts/tiny-fp32/ artifacts%2findex.json artifacts/tiny-fp32%2fmanifest.json reports/ reports/x reports%00
"""
LENGTHS = ["-1", "+5", "1 1", "5, 5", "0x10", "abc", "1e3", "9" * 20, f"{1 << 40}", f"{LIMIT + 1}"]
KINDS = ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/JSON5"]
CODINGS = ["gzip", "deflate", "br", "zstd", "gzip, gzip", "bogus"]
RANGES = ["bytes=0-", "bytes=-1", "bytes=0-0,1-1", "bytes=" + ",".join(["0-"] * 1000), "lines=1-2", "bytes=9-1"]
BODIES = {
    "nothing": b"",
    "no JSON": b"hello",
    "an array": b"[]",
    "an empty object": b"{}",
    "a number": b"1e999999",
    "NaN": b'{"schema": NaN}',
    "nested arrays": b"[" * 500_000,
    "nested objects": b'{"a":' * 100_000,
    "nested arrays that end": b"[" * 100_000 + b"]" * 100_000,
    "null bytes": b"\0" * 1000,
    "no UTF-8": b'{"schema": "\xff\xfe"}',
    "UTF-16": '{"schema": 1}'.encode("utf-16"),
    "a long number": b'{"schema": ' + b"9" * 100_000 + b"}",
    "many members": json.dumps({str(n): n for n in range(50_000)}).encode(),
    "a member twice": b'{"schema": 1, "schema": 1}',
    "escapes": b'{"schema": "\\u001b[2J\\u0007\\ud800"}',
    "a zip bomb that is not named": gzip.compress(b"0" * LIMIT),
    "a digest alone": b'{"digest":"' + b"0" * 64 + b'"}',
    "a web page": b"<script>alert(1)</script>",
    "a pickle": b"\x80\x04cos\nsystem\n.",
}
CHUNKS = {
    "a huge chunk": b"ffffffffffffffff\r\n{}",
    "a negative chunk": b"-1\r\n{}\r\n0\r\n\r\n",
    "no size": b"\r\n\r\n",
    "letters": b"xyz\r\n{}\r\n0\r\n\r\n",
    "a long extension": b"1;" + b"a" * 100_000 + b"\r\n{\r\n0\r\n\r\n",
    "many tiny ones": b"1\r\n[\r\n" * 20_000 + b"0\r\n\r\n",
    "more than the bound": (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 17 + b"0\r\n\r\n",
    "a wrong end": b"2\r\n{}XX0\r\n\r\n",
    "trailers": b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
    "no end": b"2\r\n{}\r\n",
}
HEADER_LINES = {
    "no colon": b"garbage",
    "a space before the colon": b"X-A : b",
    "a folded line": b"X-A: b\r\n c",
    "a bare return": b"X-A: b\rX-B: c",
    "a null byte": b"X-A: \0",
    "no name": b": b",
    "control characters": b"X-\x01\x02: \x1b[2J",
    "100,000 bytes": b"X-A: " + b"b" * 100_000,
    "a thousand lines": b"X-A: b\r\n" * 999 + b"X-A: b",
}
NO_HTTP = {
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "FTP": b"USER anonymous\r\nPASS x\r\n",
    "SMB": b"\0\0\0\x85\xffSMBr\0\0\0\0\x18S\xc8" + b"\0" * 100,
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "SOCKS": b"\x05\x01\0",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 508,
    "nothing": b"",
    "empty lines": b"\r\n" * 1000,
    "null bytes": b"\0" * 10_000,
    "a line without an end": b"GET /" + b"a" * 100_000,
}


def hostile_requests(serving: Serving, report: bytes) -> dict[str, Parts]:
    """Requests by what is wrong with them; with the whole `report` in those whose body is not at fault."""
    made: dict[str, Parts] = {}
    for group in (_addresses, _names, _reports, _broken, _noise):
        for name, parts in group(serving, report):
            assert name not in made
            made[name] = parts
    return made


def _addresses(serving: Serving, report: bytes) -> Iterator[tuple[str, Parts]]:
    root, page, ask = serving.path, serving.path + "index.html", serving.request
    token, host = root.strip("/"), f"{serving.host}:{serving.port}"
    for method in METHODS:
        yield f"method {method[:9]!r} of a page", (ask(method, page),)
    for method in ("GET", "HEAD", "PUT", "OPTIONS", "DELETE"):
        yield f"method {method} of the address of reports", (ask(method, root + "reports"),)
    for climb in CLIMBS.split():
        yield f"{climb!r} below the token", (ask("GET", f"{root}{climb}etc/passwd"),)
        yield f"{climb!r} without a token", (ask("GET", f"/{climb}etc/passwd"),)
    for path in [*NO_PAGES.split(), "a" * 7000]:
        yield f"no page {path[:40]!r}", (ask("GET", root + path),)
    shorter, longer, quoted = token[:-1], token + "x", f"%{ord(token[0]):02x}{token[1:-1]}"
    for wrong in (
        "",
        "token",
        shorter,
        longer,
        quoted,
        token[::-1],
        "é" * 22,
        f" {token}",
        f"{token}%00",
        f"{token}/../x",
    ):
        yield f"the token {wrong!r}", (ask("GET", f"/{wrong}/index.html"),)
        yield f"a report with the token {wrong!r}", (ask("POST", f"/{wrong}/reports", report),)
    for target in ("*", page[1:], "?" + page, f"http://{host}{page}", f"http://evil.example{page}", f"//{host}{page}"):
        yield f"the target {target!r}", (ask("GET", target),)
    for value in RANGES:
        yield f"the range {value[:20]!r} of no page", (ask("GET", root + "nothing", Range=value),)
    yield "a page with a body", (ask("GET", page, b"GET / HTTP/1.1\r\n\r\n"),)


def _names(serving: Serving, report: bytes) -> Iterator[tuple[str, Parts]]:
    """Other names of the server than its own, and reports that other pages send."""
    page, ask, port, host = serving.path + "index.html", serving.request, serving.port, f"{serving.host}:{serving.port}"
    for name in (
        *f"evil.example evil.example:{port} 127.0.0.1 localhost localhost:{port} [::1] 127.0.0.1:{port + 1}".split(),
        *f"{host}.evil {host}@evil 0.0.0.0:{port} 127.1:{port} 2130706433:{port} %00 {host}/".split(),
        *["", f"evil.example, {host}", f"{host} evil.example"],
    ):
        yield f"the host {name!r}", (ask("GET", page, Host=name),)
        yield f"a report for the host {name!r}", (ask("POST", serving.path + "reports", report, Host=name),)
    yield "two hosts", (ask("GET", page).replace(b"Host:", b"Host: evil.example\r\nHost:"),)
    for name in (
        *f"null http://evil.example https://{host} http://localhost http://{host}/ http://{host}.evil {host} file://".split(),
        *["", f"http://evil.example http://{host}", "http://127.0.0.1"],
    ):
        yield f"a report of the page {name!r}", (ask("POST", serving.path + "reports", report, Origin=name),)


def _reports(serving: Serving, report: bytes) -> Iterator[tuple[str, Parts]]:
    reports, ask = serving.path + "reports", serving.request
    for name, body in BODIES.items():
        yield f"a report of {name}", (ask("POST", reports, body),)
    for kind in KINDS:
        yield f"a report as {kind!r}", (ask("POST", reports, report, Content_Type=kind),)
    bomb = gzip.compress(b"0" * (64 << 20))
    for coding in CODINGS:
        yield f"a bomb with the coding {coding}", (ask("POST", reports, bomb, Content_Encoding=coding),)
        yield (
            f"a report with the coding {coding}",
            (ask("POST", reports, gzip.compress(report), Content_Encoding=coding),),
        )
    for length in [*LENGTHS, str(len(report) - 1), str(len(report) + 1)]:
        yield f"a report with the length {length}", (ask("POST", reports, report, Content_Length=length),)
    for method in ("PUT", "GET", "PATCH"):
        yield f"a report with {method}", (ask(method, reports, report),)
    yield "a report for a page", (ask("POST", serving.path + "index.html", report),)
    yield "an edited report", (ask("POST", reports, report.replace(b"Pixel 8", b"Pixel 9")),)
    yield "a report in capitals", (ask("POST", reports, report.upper()),)
    yield "a report without its end", (ask("POST", reports, report[:-1]),)
    yield "two reports in one", (ask("POST", reports, report + report),)
    for name, chunks in CHUNKS.items():
        yield f"chunks with {name}", (ask("POST", reports, Content_Length="", Transfer_Encoding="chunked"), chunks)
    smuggled = b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    yield "a length and chunks", (ask("POST", reports, smuggled, Transfer_Encoding="chunked"),)
    yield "an unknown transfer coding", (ask("POST", reports, report, Transfer_Encoding="gzip", Content_Length=""),)
    yield "a report that stops", (ask("POST", reports, Content_Length="1000"), b"{", b'"a"')
    yield "an expectation", (ask("POST", reports, report, Expect="100-continue", Origin="null"),)


def _broken(serving: Serving, report: bytes) -> Iterator[tuple[str, Parts]]:
    page, ask = serving.path + "index.html", serving.request
    nothing = ask("GET", serving.path + "nothing")
    for name, line in HEADER_LINES.items():
        yield f"a header with {name}", (nothing.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n"),)
    for version in ("", " HTTP/0.9", " HTTP/1.0", " HTTP/3.0", " HTTP/1.1.1", " "):
        yield f"the version {version!r} without a host", (f"GET {page}{version}\r\n\r\n".encode(),)
    for name, content in NO_HTTP.items():
        yield f"{name} for HTTP", (content,)
    yield "a websocket", (ask("GET", serving.path + "nothing", Connection="Upgrade", Upgrade="websocket"),)
    yield "HTTP/2 as an upgrade", (ask("GET", serving.path + "nothing", Connection="Upgrade", Upgrade="h2c"),)
    yield "half a request", (ask("GET", page)[:-4],)
    yield "a request byte by byte", tuple(bytes([byte]) for byte in nothing)
    yield "200 requests in a row", (nothing * 200,)
    yield "a request within another's body", (ask("POST", serving.path + "nothing", ask("GET", "/admin")),)


def _noise(serving: Serving, report: bytes) -> Iterator[tuple[str, Parts]]:
    chance = random.Random(19)
    for number in range(30):
        yield f"noise {number}", (chance.randbytes(chance.randrange(1, 3000)),)
    whole = serving.request("POST", serving.path + "reports", report[:-40] + report[-39:])
    for number in range(40):
        mutated = bytearray(whole)
        for _ in range(chance.randrange(1, 12)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        yield f"mutated {number}", (bytes(mutated),)
