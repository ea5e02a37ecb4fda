"""`mobilevit phone` as a user meets it: the address, the code, the verdict, the exit code."""

from __future__ import annotations

import http.client
import importlib.metadata
import io
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from artifact_kinds import rejected_record
from click.testing import CliRunner
from device_reports import device_report, device_run
from fake_adb import LIST, REMOVE, REVERSE, VIEW, VIEWED, Exchange, FakeAdb
from helpers import REPOSITORY
from phone_server import SECONDS, make_artifacts, stub_app

from mobilevit_sdk.apps import network
from mobilevit_sdk.apps.qr_code import qr_rows
from mobilevit_sdk.artifacts.artifact import write_manifest
from mobilevit_sdk.cli import main
from mobilevit_sdk.cli import phone as phone_cli
from mobilevit_sdk.cli.common import _Console
from mobilevit_sdk.parity import Outcome
from mobilevit_sdk.parity.device import seal


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    stub_app(tmp_path / "app", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return make_artifacts(tmp_path, "tiny-fp32")[0]


@pytest.fixture
def opened_by(monkeypatch):
    """Makes a phone post these reports, one after the other, to whatever address is shown."""

    def post(address, *contents):
        parts = urlsplit(address)
        for content in contents:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
            headers = {"Origin": f"http://{parts.netloc}", "Content-Type": "application/json"}
            connection.request("POST", parts.path + "reports", content, headers)
            assert connection.getresponse().status == 200
            connection.close()

    original = phone_cli._show_address

    def phone(*contents):
        def show(address, *, keep):
            original(address, keep=keep)
            threading.Thread(target=post, args=(address, *contents)).start()

        monkeypatch.setattr(phone_cli, "_show_address", show)

    return phone


def run(*arguments):
    return CliRunner().invoke(main, ["phone", *map(str, arguments)])


LOCAL = ("--host", "127.0.0.1", "--http")


def test_the_verdict_of_a_phone_is_printed_as_verify_does_and_ends_the_command(artifact, opened_by, tmp_path):
    opened_by(seal(device_report(artifact)))
    result = run(artifact.path.parent, *LOCAL)
    assert result.exit_code == 0
    assert re.search(r"http://127\.0\.0\.1:\d+/[\w-]{22}/\n", result.stderr)
    assert "WebAssembly on one thread" in result.stderr
    judged = CliRunner().invoke(
        main,
        [
            "verify",
            "tiny-fp32",
            "--runtime",
            "device",
            "--device-report",
            "device-reports/Pixel-8-tiny-fp32.device-report.json",
        ],
    )
    assert judged.stdout == result.stdout
    assert "Pixel 8 (Android 15)" in result.stdout


def test_json_is_one_document_with_the_verdicts_and_the_files(artifact, opened_by):
    opened_by(seal(device_report(artifact)))
    result = run(artifact.path.parent, *LOCAL, "--json", "--out", "mine.json")
    document = json.loads(result.stdout)
    assert document["passed"] is True
    assert [row["runtime"] for row in document["verdicts"]] == ["litert-gpu"]
    assert document["reports"] == [{"path": "mine.json", "artifact": "tiny-fp32", "device": "Pixel 8 (Android 15)"}]


@pytest.mark.parametrize("given", [(), ("--json",)])
def test_a_report_that_cannot_be_kept_is_an_error_beside_the_verdict(given, artifact, opened_by, tmp_path, monkeypatch):
    out = tmp_path / "reports"
    monkeypatch.setattr(network, "listen", lambda *at, listen=network.listen: (out.touch(), listen(*at))[1])
    opened_by(seal(device_report(artifact)))
    result = run(artifact.path.parent, *LOCAL, "--out", out, *given)
    assert result.exit_code == 2
    assert re.search(r"^error: cannot write into .*reports: ", result.stderr, re.MULTILINE)
    if given:
        document = json.loads(result.stdout)
        assert document["passed"] is True
        assert document["exit_code"] == 2
        assert document["error"].startswith("cannot write into ")
    else:
        assert "passed" in result.stdout


def test_an_artifact_that_was_rejected_is_told_before_a_phone_runs_it(artifact, opened_by):
    manifest = msgspec.structs.replace(artifact.manifest, quantization=rejected_record())
    write_manifest(artifact.path.parent, manifest)
    opened_by(seal(device_report(artifact)))
    result = run(artifact.path.parent, *LOCAL)
    assert result.exit_code == 1
    told = "phone: tiny-fp32 will fail on every phone: it was rejected (the same class on 50 of 100 images"
    assert result.stderr.index(told) < result.stderr.index("http://")
    exported = run(artifact.path.parent, "--export", "page")
    assert (exported.exit_code, Path("page").exists()) == (2, False)
    assert "tiny-fp32 was rejected (the same class on 50 of 100 images is below 93%); do not ship it" in exported.stderr


def test_the_exit_code_is_the_gates(artifact, opened_by):
    answers = artifact.reference().answers
    opened_by(seal(device_report(artifact, device_run(artifact, answers[:, ::-1].copy()))))
    assert run(artifact.path.parent, *LOCAL).exit_code == 1
    broken = device_run(artifact, cases=(), error="the GPU refuses the file", latency=None)
    opened_by(seal(device_report(artifact, broken)))
    result = run(artifact.path.parent, *LOCAL)
    assert result.exit_code == 3
    assert "the GPU refuses the file" in result.stdout
    opened_by()
    nobody = run(artifact.path.parent, *LOCAL, "--timeout", "0.1")
    assert (nobody.exit_code, nobody.stdout) == (3, "")
    assert "no phone reported within 0.1 seconds; give a longer --timeout" in nobody.stderr


def test_runs_that_pass_alone_and_contradict_each_other_end_with_1(artifact, opened_by, monkeypatch):
    monkeypatch.setattr(Outcome, "missed", property(lambda outcome: True))
    opened_by(seal(device_report(artifact)))
    assert run(artifact.path.parent, *LOCAL).exit_code == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a thread of this process")
def test_ctrl_c_ends_with_130_and_the_port_is_free(artifact, monkeypatch, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    shown = []

    def show(address, *, keep):
        shown.append(urlsplit(address))
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(phone_cli, "_show_address", show)
    result = run(artifact.path.parent, *LOCAL, "--keep")
    assert result.exit_code == 130
    assert result.stderr.strip().splitlines()[-1] == "error: interrupted"
    network.listen("127.0.0.1", shown[0].port).close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--app"], "--app needs --adb"),
        (["--apk", "x"], "--apk needs --adb"),
        (["--serial", "x"], "--serial needs --adb"),
        (["--adb", "--http"], "--http has no meaning with --adb"),
        (["--adb", "--app", "--keep"], "--keep has no meaning with the app"),
        (["--export", "x", "--adb"], "--adb has no meaning with --export"),
        (["--host", "localhost"], "'localhost' is not an IP address"),
        (["--port", "70000"], "70000 is not in the range"),
        (["--adb", "--adb-path", "nothing"], "nothing is not a program; give the path of adb as `--adb-path`"),
        (["--out", "tiny-fp32/manifest.json"], "manifest.json exists; give another --out"),
    ],
)
def test_a_wrong_request_is_one_line_with_exit_code_2(options, reason, artifact):
    result = run(artifact.path.parent, *options)
    assert result.exit_code == 2
    assert reason.replace("`", "") in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_artifact_that_is_missing_damaged_or_changed_is_one_line(artifact):
    assert "does not exist" in run("nowhere", *LOCAL).stderr
    artifact.path.write_bytes(b"changed")
    changed = run(artifact.path.parent, *LOCAL)
    assert (changed.exit_code, len(changed.stderr.splitlines())) == (2, 1)
    assert "not the file that its manifest describes" in changed.stderr


@pytest.mark.parametrize("package", ["aiohttp", "cryptography"])
def test_without_a_package_of_the_extra_one_line_says_what_to_install(package, artifact, monkeypatch):
    version = importlib.metadata.version

    def without(name):
        if name == package:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    result = run(artifact.path.parent, "--host", "127.0.0.1", "--timeout", "0.1")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith(
        f"error: {package} is not installed: pip install 'mobilevit-sdk[phone]'"
    )


def test_export_writes_the_page_and_names_what_it_holds(artifact):
    result = run(artifact.path.parent, "--export", "public")
    assert (result.exit_code, result.stdout) == (
        0,
        "public: the page with tiny-fp32; its README says how to serve it\n",
    )
    assert json.loads(run(artifact.path.parent, "--export", "public", "--json").stdout)["artifacts"] == ["tiny-fp32"]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for adb is a script with a first line")
def test_over_usb_nothing_is_to_be_scanned(artifact, tmp_path):
    (tmp_path / "report").write_bytes(seal(device_report(artifact)))
    fake = FakeAdb(tmp_path / "bin", LIST, REVERSE, Exchange(VIEW, VIEWED, post=str(tmp_path / "report")), REMOVE)
    result = run(artifact.path.parent, "--adb", "--adb-path", fake.path)
    assert result.exit_code == 0
    assert "█" not in result.stderr
    assert "Pixel 8 (Android 15)" in result.stdout


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_code_on_a_terminal_of_80_columns_is_whole_and_black_on_white(monkeypatch):
    terminal = Terminal()
    console = _Console(file=terminal, force_terminal=True, width=80, height=24, color_system="truecolor")
    monkeypatch.setattr(phone_cli, "log", console)
    address = "https://255.255.255.255:65535/" + "x" * 22 + "/"
    phone_cli._show_address(address, keep=False)
    lines = terminal.getvalue().splitlines()
    code = [line for line in lines if "█" in line]
    drawn = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in code]
    assert drawn == qr_rows(address)
    assert all(line.startswith("\x1b[38;2;255;255;255;48;2;0;0;0m") for line in code)
    assert len(lines) <= 24
    assert any(address in line for line in lines)
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines) <= 80


def test_help_of_the_command_imports_no_server(tmp_path):
    program = (
        "import sys\n"
        "from mobilevit_sdk.cli import main\n"
        "try: main(['phone', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'aiohttp', 'cryptography', 'segno', 'torch', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stderr.strip() == "[]"
