"""A phone's report reaches the command that waits for it, which judges it, keeps it and ends."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading

import numpy as np
import pytest
from device_reports import PIXEL, device_report, device_run
from helpers import REPOSITORY
from phone_server import SECONDS, Serving, make_artifacts, stub_app

from mobilevit_sdk.apps import inbox, network
from mobilevit_sdk.apps.server import Request
from mobilevit_sdk.apps.visitors import Visitors
from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.parity import THRESHOLDS
from mobilevit_sdk.parity.device import Device, read_device_report, seal

IPHONE = Device(model="iPhone 15", system="iOS 18", processor=None)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return make_artifacts(tmp_path_factory.mktemp("artifacts"), "tiny-fp32", "tiny-two")


@pytest.fixture(autouse=True)
def app(tmp_path, monkeypatch):
    return stub_app(tmp_path / "app", monkeypatch)


@pytest.mark.parametrize("https", [False, True])
def test_a_report_that_is_posted_is_judged_kept_and_ends_the_command(https, artifacts, tmp_path):
    report = seal(device_report(artifacts[0]))
    with Serving(artifacts[:1], tmp_path / "out", https=https) as serving:
        assert serving.address.startswith("https://127.0.0.1:" if https else "http://127.0.0.1:")
        assert serving.ask("GET", "")[1] == b"<!doctype html><title>MobileViT</title>"
        status, answer = serving.post(report)
        result = serving.result()
    assert status == 200
    (row,) = json.loads(answer)["verdicts"]
    assert (json.loads(answer)["passed"], row["runtime"], row["device"]) == (True, "litert-gpu", "Pixel 8 (Android 15)")
    assert [verdict.to_json() for verdict in result.outcome.verdicts] == [row]
    kept = tmp_path / "out/Pixel-8-tiny-fp32.device-report.json"
    assert kept.read_bytes() == report
    assert result.to_json()["reports"] == [
        {"path": str(kept), "artifact": "tiny-fp32", "device": "Pixel 8 (Android 15)"}
    ]
    assert any(line.startswith("Pixel 8 (Android 15): tiny-fp32: litert-gpu passed") for line in serving.lines)


def test_when_the_command_has_ended_nothing_answers_and_the_port_is_free(artifacts, tmp_path):
    with Serving(artifacts[:1], tmp_path) as serving, serving.connect() as open_connection:
        serving.post(seal(device_report(artifacts[0])))
        serving.result()
        assert open_connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        serving.connect()
    network.listen(serving.host, serving.port).close()


def test_every_artifact_needs_a_report_before_the_command_ends(artifacts, tmp_path):
    with Serving(artifacts, tmp_path) as serving:
        index = json.loads(serving.ask("GET", "artifacts/index.json")[1])
        assert index == {"artifacts": [{"name": "tiny-fp32"}, {"name": "tiny-two"}]}
        assert serving.ask("GET", "artifacts/tiny%2Dtwo/manifest.json")[0] == 200
        serving.post(seal(device_report(artifacts[1])))
        serving.post(seal(device_report(artifacts[0])))
        assert [verdict.status for verdict in serving.result().outcome.verdicts] == ["passed", "passed"]


def test_wrong_answers_of_a_phone_fail_its_verdict(artifacts, tmp_path):
    shift = np.float32(0.5) * np.arange(5, dtype=np.float32)
    wrong = device_run(artifacts[0], artifacts[0].reference().answers + shift)
    with Serving(artifacts[:1], tmp_path) as serving:
        status, answer = serving.post(seal(device_report(artifacts[0], wrong)))
        assert (status, json.loads(answer)["passed"]) == (200, False)
        (verdict,) = serving.result().outcome.verdicts
    assert verdict.status == "failed"


def test_two_phones_that_send_at_once_are_both_judged(artifacts, tmp_path, monkeypatch):
    both_here = threading.Barrier(2)

    def take(self, content, original=inbox.Inbox.take):
        both_here.wait(SECONDS)
        return original(self, content)

    monkeypatch.setattr(inbox.Inbox, "take", take)
    reports = [seal(device_report(artifacts[0], device=device)) for device in (PIXEL, IPHONE)]
    with Serving(artifacts[:1], tmp_path) as serving:
        answers = []
        senders = [threading.Thread(target=lambda r=r: answers.append(serving.post(r)[0])) for r in reports]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(SECONDS)
        result = serving.result()
    assert answers == [200, 200]
    assert sorted(str(verdict.device) for verdict in result.outcome.verdicts) == [
        "Pixel 8 (Android 15)",
        "iPhone 15 (iOS 18)",
    ]


def test_with_keep_further_phones_come_until_ctrl_c(artifacts, tmp_path):
    with Serving(artifacts[:1], tmp_path, keep=True) as serving:
        for device in (PIXEL, IPHONE):
            assert serving.post(seal(device_report(artifacts[0], device=device)))[0] == 200
        serving.interrupt()
        assert len(serving.result().outcome.verdicts) == 2


def test_ctrl_c_without_a_report_is_an_interruption_and_frees_the_port(artifacts, tmp_path):
    with Serving(artifacts[:1], tmp_path, keep=True) as serving:
        serving.interrupt()
        with pytest.raises(KeyboardInterrupt):
            serving.result()
    with pytest.raises(ConnectionRefusedError):
        serving.connect()


def test_a_report_that_is_sent_again_gets_its_answer_and_counts_once(artifacts, tmp_path):
    report = seal(device_report(artifacts[0]))
    with Serving(artifacts, tmp_path) as serving:
        first = serving.post(report)
        assert serving.post(report) == first
        serving.post(seal(device_report(artifacts[1])))
        result = serving.result()
    assert len(result.reports) == 2
    assert len(list(tmp_path.glob("*.device-report.json"))) == 2


def test_a_phone_that_loses_the_network_in_mid_report_sends_it_again(artifacts, tmp_path):
    report = seal(device_report(artifacts[0]))
    with Serving(artifacts[:1], tmp_path) as serving:
        with serving.connect() as lost:
            lost.sendall(serving.request("POST", serving.path + "reports", report)[: -len(report) // 2])
        assert serving.post(report)[0] == 200
        assert len(serving.result().reports) == 1


def test_a_phone_that_is_lost_for_good_ends_with_the_time(artifacts, tmp_path):
    with Serving(artifacts[:1], tmp_path, timeout=0.1) as serving, pytest.raises(ToolchainError, match="no phone"):
        serving.result()


def test_reports_never_overwrite_what_is_there(artifacts, tmp_path):
    kept = inbox.Inbox(artifacts[:1], tmp_path, THRESHOLDS, lambda line: None)
    for name, system in (("../../etc/passwd", "1"), ("Pixel 8", "1"), ("Pixel 8", "2"), ("☎", "1")):
        device = Device(model=name, system=system, processor=None)
        kept.take(seal(device_report(artifacts[0], device=device)))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "Pixel-8-tiny-fp32-2.device-report.json",
        "Pixel-8-tiny-fp32.device-report.json",
        "etc-passwd-tiny-fp32.device-report.json",
        "phone-tiny-fp32.device-report.json",
    ]
    for each in kept.received:
        assert read_device_report(each.path) == each.report


def test_a_file_for_the_report_is_refused_before_anything_is_served(artifacts, tmp_path):
    (tmp_path / "there.json").write_text("{}", encoding="utf-8")
    (tmp_path / "there").write_text("", encoding="utf-8")
    for given, reason, chosen in (
        ("there.json", "there.json exists", artifacts[:1]),
        ("new.json", "2 artifacts", artifacts),
        ("there", "neither a folder", artifacts[:1]),
    ):
        with pytest.raises(RequestError, match=reason):
            inbox.Inbox(chosen, tmp_path / given, THRESHOLDS, print)


@pytest.mark.skipif(os.name != "posix", reason="links take a privilege on Windows")
@pytest.mark.parametrize("given", ["file/reports", "file/reports/one.json", "link", "link/one.json"])
def test_a_place_that_takes_no_reports_is_refused_before_anything_is_served(artifacts, tmp_path, given):
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "else")
    with pytest.raises(RequestError, match="cannot write into"):
        inbox.Inbox(artifacts[:1], tmp_path / given, THRESHOLDS, print)


def test_a_place_that_takes_reports_stays_as_it_is_until_one_comes(artifacts, tmp_path):
    for given in ("new/folder", "new/one.json", "."):
        inbox.Inbox(artifacts[:1], tmp_path / given, THRESHOLDS, print)
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("accelerators", "words"), [(("wasm",), "; did not run: webgpu"), (("wasm", "webgpu"), "")])
def test_what_a_browser_lacked_is_said(artifacts, tmp_path, accelerators, words):
    said = []
    runs = [device_run(artifacts[0], accelerator=each) for each in accelerators]
    inbox.Inbox(artifacts[:1], tmp_path, THRESHOLDS, said.append).take(seal(device_report(artifacts[0], *runs)))
    passed = ", ".join(f"litert-{each} passed" for each in accelerators)
    assert said[-1].startswith(f"Pixel 8 (Android 15): tiny-fp32: {passed}{words}; kept as ")


def test_the_page_runs_files_on_what_the_command_expects_of_it():
    app = REPOSITORY / "web_demo/src"
    assert f'name: "{inbox.PAGE}"' in (app / "verify_screen.js").read_text(encoding="utf-8")
    listed = json.dumps(inbox.PAGE_ACCELERATORS)
    assert f"export const ACCELERATORS = {listed};" in (app / "engine.js").read_text(encoding="utf-8")


def test_a_report_that_cannot_be_kept_is_judged_and_the_command_ends_with_the_reason(artifacts, tmp_path):
    (tmp_path / "out").mkdir()
    with Serving(artifacts[:1], tmp_path / "out") as serving:
        (tmp_path / "out").rmdir()
        (tmp_path / "out").write_text("in the way", encoding="utf-8")
        assert serving.post(seal(device_report(artifacts[0])))[0] == 200
        result = serving.result()
    assert result.outcome.passed
    assert "cannot write" in str(result.error)
    assert [each["path"] for each in result.to_json()["reports"]] == [None]


def test_reports_of_other_files_or_vectors_are_refused_in_one_line(artifacts, tmp_path):
    with Serving(artifacts[:1], tmp_path) as serving:
        status, answer = serving.post(seal(device_report(artifacts[1])))
        assert status == 422
        assert "which no artifact here has" in json.loads(answer)["error"]
        assert "\n" not in json.loads(answer)["error"]
        assert serving.post(seal(device_report(artifacts[0])))[0] == 200


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"sec-ch-ua-model": '"Pixel 8"', "user-agent": "Mozilla/5.0 (Linux; Android 10; K)"}, "Pixel 8"),
        ({"sec-ch-ua-model": '""', "user-agent": "Mozilla/5.0 (Linux; Android 10; K) Chrome/156"}, "an Android phone"),
        ({"user-agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X)"}, "an iPhone"),
        ({"user-agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"}, "a browser on macOS"),
        ({}, "a browser"),
        ({"sec-ch-ua-model": '"\x1b[2J' + "x" * 1000 + '"'}, "[2J" + "x" * 37),
    ],
)
def test_who_opened_the_page_is_said_once_in_what_a_terminal_can_show(headers, name):
    visitors = Visitors()

    def line(path, client="192.168.1.7"):
        return visitors.line(Request(path, client, headers))

    assert line("") is None  # a preview of a link opens no more than that
    assert line("src/app.js") == f"{name} (192.168.1.7) opened the page"
    assert line("style.css") is None
    assert line("style.css", "127.0.0.1") == f"{name} opened the page"
    assert line("artifacts/one/reference.safetensors") == f"{name} (192.168.1.7) loaded one"
    assert line("artifacts/one/reference.safetensors") is None


def test_the_certificate_is_for_this_address_alone(artifacts, tmp_path):
    with Serving(artifacts[:1], tmp_path, https=True) as serving:
        with serving.connect() as connection:
            pem = ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))
        trusting = ssl.create_default_context(cadata=pem)
        with (
            socket.create_connection((serving.host, serving.port)) as plain,
            trusting.wrap_socket(plain, server_hostname="127.0.0.1") as checked,
        ):
            assert checked.version() in ("TLSv1.2", "TLSv1.3")
        with socket.create_connection((serving.host, serving.port)) as plain, pytest.raises(ssl.SSLError):
            trusting.wrap_socket(plain, server_hostname="localhost")
        serving.post(seal(device_report(artifacts[0])))
