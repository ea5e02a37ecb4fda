"""What strangers in the network may send: no crash, none of it is accepted, and a phone is answered afterwards."""

from __future__ import annotations

import http.client
import random
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from device_reports import device_report
from hostile_requests import LIMIT, hostile_requests
from hypothesis import given
from hypothesis import strategies as st
from phone_server import SECONDS, Serving, make_artifacts, stub_app

from mobilevit_sdk.apps import inbox
from mobilevit_sdk.parity.device import seal

SECRET = b"<title>MobileViT</title>"  # of the page


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return make_artifacts(tmp_path_factory.mktemp("artifacts"), "tiny-fp32")


def at_last(ask: Callable[[], tuple]) -> tuple:
    """What a phone hears that tries again where a server hung up, or heard too little in time.

    On a busy machine a test, too, may say nothing for the fraction of a second that `serving` has patience for.
    """
    end = time.monotonic() + SECONDS
    while True:
        try:
            answer = ask()
            if answer[0] != 408 or time.monotonic() > end:
                return answer
        except (OSError, http.client.HTTPException):
            if time.monotonic() > end:
                raise


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield stub_app(tmp_path_factory.mktemp("app"), patch)


@pytest.fixture(scope="module")
def patient(artifacts, app, tmp_path_factory):
    """A server that waits as long as that of the command."""
    with Serving(artifacts, tmp_path_factory.mktemp("patient"), bytes_of_report=LIMIT) as serving:
        yield serving
        serving.post(seal(device_report(artifacts[0])))
        serving.result()


@pytest.fixture(scope="module")
def serving(artifacts, app, tmp_path_factory):
    """A server without patience: what never ends would hold up the tests."""
    limits = {"idle_seconds": 0.3, "body_seconds": 0.3, "write_seconds": 5.0, "shutdown_seconds": 0.3}
    with Serving(artifacts, tmp_path_factory.mktemp("out"), bytes_of_report=LIMIT, **limits) as serving:
        yield serving
        at_last(lambda: serving.post(seal(device_report(artifacts[0]))))
        result = serving.result()
        assert len(result.reports) == 1
        assert not [line for line in serving.lines if "internal" in line or not line.isprintable()]
        assert len(serving.lines) < 60


def refused(answer: bytes) -> bool:
    """Whether every answer in these bytes is a refusal in a line, or there is none."""
    statuses = re.findall(rb"^HTTP/1\.[01] (\d{3})", answer, re.MULTILINE)
    return all(b"400" <= status < b"600" for status in statuses) and SECRET not in answer and b"Traceback" not in answer


def test_more_than_200_hostile_requests_are_refused_and_a_phone_is_answered_afterwards(serving, artifacts):
    requests = hostile_requests(serving, seal(device_report(artifacts[0])))
    assert len(requests) >= 200
    with ThreadPoolExecutor(16) as pool:
        answers = dict(zip(requests, pool.map(lambda parts: serving.send(*parts), requests.values()), strict=True))
        for _ in range(20):
            unanswered = [name for name, answer in answers.items() if not answer]
            if len(unanswered) < 60:  # closed, because what was sent ended nowhere
                break
            # A busy machine: some were closed before all of it was sent.
            again = pool.map(lambda name: serving.send(*requests[name]), unanswered)
            answers |= dict(zip(unanswered, again, strict=True))
    assert {name: answer[:200] for name, answer in answers.items() if not refused(answer)} == {}
    assert len(unanswered) < 60
    assert at_last(lambda: serving.ask("GET", "index.html"))[0] == 200


@given(st.binary(min_size=1, max_size=2000))
def test_bytes_of_any_kind_are_no_request(serving, content):
    assert refused(serving.send(content, b"\r\n\r\n"))


@given(st.text(max_size=60), st.sampled_from(["", "artifacts/", "litert/", "src/"]))
def test_no_path_beside_those_of_the_table_is_served(serving, path, folder):
    target = serving.path + folder + path
    if folder + path in ("", "index.html", "src/app.js", "config.json"):
        return
    assert refused(serving.send(serving.request("GET", target.encode("utf-8").decode("latin-1"), Connection="close")))


def test_a_report_beyond_its_bound_is_413_whether_it_says_so_or_not(patient):
    body = b" " * (LIMIT + 1)
    chunked = patient.request("POST", patient.path + "reports", Content_Length="", Transfer_Encoding="chunked")
    for parts in (
        (patient.request("POST", patient.path + "reports", body),),
        (chunked, b"%x\r\n" % len(body), body, b"\r\n0\r\n\r\n"),
    ):
        answer = patient.send(*parts)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'{"error": "a device report has at most 1048576 bytes"}' in answer


def test_every_answer_says_that_other_pages_may_not_use_it(patient):
    for path in ("", "config.json", "nothing"):
        headers = patient.ask("GET", path)[2]
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_a_range_of_a_page_is_answered_with_all_of_it(patient):
    status, body, _ = patient.ask("GET", "index.html", Range="bytes=0-3,5-9")
    assert (status, body) == (200, b"<!doctype html><title>MobileViT</title>")


def test_connections_beyond_the_bound_are_closed_and_free_ones_are_used_again(artifacts, tmp_path, monkeypatch):
    stub_app(tmp_path / "app", monkeypatch)
    with Serving(artifacts, tmp_path / "out", connections=3) as serving:
        held = [serving.connect() for _ in range(3)]
        for connection in held:  # each is there when it is answered
            connection.sendall(serving.request("GET", serving.path + "config.json"))
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert serving.send(serving.request("GET", serving.path)) == b""
        for connection in held:
            connection.sendall(serving.request("GET", serving.path + "config.json", Connection="close"))
            while connection.recv(1 << 16):
                pass
            connection.close()
        assert serving.post(seal(device_report(artifacts[0])))[0] == 200
        serving.result()


def test_reports_that_come_at_once_are_bounded(artifacts, tmp_path, monkeypatch):
    stub_app(tmp_path / "app", monkeypatch)
    report = seal(device_report(artifacts[0]))
    with Serving(artifacts, tmp_path / "out", reports_at_once=1) as serving:
        with serving.connect() as slow:
            slow.sendall(serving.request("POST", serving.path + "reports", Content_Length="10"))
            status = 0
            while status != 503:  # until the slow one has begun
                status = serving.ask("POST", "reports", b"{}", Origin=serving.origin, Content_Type="application/json")[
                    0
                ]
                assert status in (422, 503)
        while serving.post(report)[0] == 503:  # until the server has seen that it is gone
            pass
        assert len(serving.result().reports) == 1


def test_reports_are_bounded_in_number_and_what_is_said_about_refused_ones_too(artifacts, tmp_path, monkeypatch):
    monkeypatch.setattr(inbox, "MAX_REPORTS", 1)
    stub_app(tmp_path / "app", monkeypatch)
    with Serving(artifacts, tmp_path / "out", keep=True) as serving:
        assert serving.post(seal(device_report(artifacts[0])))[0] == 200
        other = seal(device_report(artifacts[0], app={"name": "x", "version": "1"}))
        assert b"no more are taken" in serving.post(other)[1]
        for number in range(50):
            assert serving.post(b'{"schema": %d}' % number)[0] == 422
        serving.interrupt()
        assert len(serving.result().reports) == 1
    assert len([line for line in serving.lines if "refused" in line]) == inbox.MAX_REFUSALS_SAID


def test_tls_garbage_is_closed_without_a_word(artifacts, tmp_path, monkeypatch):
    stub_app(tmp_path / "app", monkeypatch)
    chance = random.Random(19)
    with Serving(artifacts, tmp_path / "out", https=True, idle_seconds=0.3) as serving:
        for content in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"",
            *(chance.randbytes(200) for _ in range(10)),
            b"\x16\x03\x01\xff\xff",
        ):
            with socket.create_connection((serving.host, serving.port)) as plain:
                plain.sendall(content)
                try:
                    while plain.recv(1 << 16):
                        pass
                except ConnectionError:
                    pass
        assert at_last(lambda: serving.post(seal(device_report(artifacts[0]))))[0] == 200
        serving.result()
    assert not [line for line in serving.lines if "internal" in line]
