"""The page and the app on a phone at USB, whose adb replays recorded exchanges; no real phone has run them."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import pytest
from device_reports import device_report
from fake_adb import GONE, LIST, REMOVE, REVERSE, SERIAL, VIEW, VIEWED, Exchange, FakeAdb
from phone_server import make_artifacts, stub_app

from mobilevit_sdk.apps import adb as adb_module
from mobilevit_sdk.apps import android
from mobilevit_sdk.apps.adb import Adb, Phone, attached_phone, find_adb, list_phones
from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.parity.device import seal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for adb is a script with a first line")

NAME = "tiny-fp32"
HEAD = "List of devices attached\n"
STATES = {
    "no phone is attached": HEAD + "\n",
    "unlock the phone and allow USB debugging": HEAD + f"{SERIAL}\tunauthorized usb:1-2 transport_id:1\n\n",
    f"{SERIAL} is authorizing: unlock": HEAD + f"{SERIAL}         authorizing usb:1-2 transport_id:7\n",
    "is offline: unplug the phone": HEAD + f"{SERIAL}         offline usb:1-2 transport_id:2\n",
    "this user may not use the USB device": HEAD
    + f"{SERIAL}         no permissions (missing udev rules? user is in the plugdev group); see "
    "[http://developer.android.com/tools/device.html] usb:1-2 transport_id:3\n",
    "start the phone's system": HEAD + f"{SERIAL}         recovery usb:1-2 transport_id:1\n",
}
TWO = HEAD + (
    f"{SERIAL}         device usb:1-2 product:shiba model:Pixel_8 device:shiba transport_id:4\n"
    "emulator-5554          device product:sdk_gphone64_x86_64 model:sdk_gphone64_x86_64 transport_id:1\n"
    "R58M12ABCDE            unauthorized usb:1-3 transport_id:5\n"
)
REPORT = f"{NAME}.device-report.json"
STARTED = (
    "Stopping: dev.mobilevit.demo\nStarting: Intent { cmp=dev.mobilevit.demo/.MainActivity }\n"
    "Status: ok\nLaunchState: COLD\nActivity: dev.mobilevit.demo/.MainActivity\nTotalTime: 412\nComplete\n"
)
APP = (
    LIST,
    Exchange("shell pm path dev.mobilevit.demo", "package:/data/app/~~q1==/dev.mobilevit.demo-Zw==/base.apk\n"),
    Exchange("shell am start -W -S -n dev.mobilevit.demo/.MainActivity$", STARTED),
    Exchange("shell rm -rf /sdcard/Android/data/dev.mobilevit.demo/files/artifacts/"),
    Exchange("shell mkdir -p /sdcard/Android/data/dev.mobilevit.demo/files/artifacts/"),
    Exchange(
        "push .* /sdcard/Android/data/dev.mobilevit.demo/files/artifacts/", "3 files pushed, 0 skipped. 31.2 MB/s\n"
    ),
    Exchange(
        "shell am start -W -S -n dev.mobilevit.demo/.MainActivity --es verify ",
        STARTED.replace("MainActivity }", "MainActivity (has extras) }"),
    ),
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_artifacts(tmp_path_factory.mktemp("artifacts"), NAME)[0]


@pytest.fixture
def report(artifact, tmp_path):
    path = tmp_path / "report"
    path.write_bytes(seal(device_report(artifact)))
    return str(path)


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """A function that attaches a phone with these exchanges, the earlier ones first."""
    stub_app(tmp_path / "app", monkeypatch)

    def attach(*exchanges):
        fake = FakeAdb(tmp_path / "bin", *exchanges)
        attach.calls = lambda: fake.calls
        return attached_phone(str(fake.path))

    return attach


def by_page(artifact, adb, tmp_path, lines=None, **options):
    say = (lambda line: None) if lines is None else lines.append
    return android.verify_page_over_usb([artifact], adb, out=tmp_path / "out", say=say, poll=0.0, **options)


def by_app(artifact, adb, tmp_path, lines=None, **options):
    say = (lambda line: None) if lines is None else lines.append
    return android.verify_with_app([artifact], adb, out=tmp_path / "out", say=say, poll=0.0, **options)


def test_adb_is_found_on_the_path_in_an_sdk_or_where_it_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    with pytest.raises(ToolchainError, match=r"adb is not installed: [^`]*`adb_path`$"):
        find_adb()
    fake = FakeAdb(tmp_path / "platform-tools", LIST)
    with pytest.raises(RequestError, match="is not a program"):
        find_adb(tmp_path / "nothing")
    assert find_adb(fake.path) == str(fake.path)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    assert find_adb() == str(fake.path)
    monkeypatch.setenv("PATH", str(fake.path.parent))
    assert find_adb() == str(fake.path)


def test_phones_are_listed_whatever_adb_says_before(tmp_path):
    chatter = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
    fake = FakeAdb(tmp_path / "bin", Exchange("devices -l", chatter + TWO))
    assert list_phones(str(fake.path)) == [
        Phone(SERIAL, "device", "Pixel 8"),
        Phone("emulator-5554", "device", "sdk gphone64 x86 64"),
        Phone("R58M12ABCDE", "unauthorized", None),
    ]


@pytest.mark.parametrize("reason", STATES)
def test_a_phone_that_is_not_ready_is_an_error_that_says_what_to_do(reason, tmp_path):
    fake = FakeAdb(tmp_path / "bin", Exchange("devices -l", STATES[reason]))
    with pytest.raises(ToolchainError) as caught:
        attached_phone(str(fake.path))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_several_phones_one_is_named(tmp_path):
    fake = FakeAdb(tmp_path / "bin", Exchange("devices -l", TWO))
    with pytest.raises(RequestError, match=rf"give one as `serial`: {SERIAL} \(Pixel 8\), emulator-5554 \(sdk "):
        attached_phone(str(fake.path))
    assert attached_phone(str(fake.path), "emulator-5554") == Adb(str(fake.path), "emulator-5554")
    with pytest.raises(ToolchainError, match="R58M12ABCDE is unauthorized"):
        attached_phone(str(fake.path), "R58M12ABCDE")
    with pytest.raises(RequestError, match="no phone 'x' is attached; attached: "):
        attached_phone(str(fake.path), "x")


def test_an_adb_that_hangs_or_does_not_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(adb_module, "COMMAND_SECONDS", 0.2)
    fake = FakeAdb(tmp_path / "bin", Exchange("devices", hangs=True))
    with pytest.raises(ToolchainError, match=r"adb devices did not end within 0\.2 seconds; unlock the phone"):
        list_phones(str(fake.path))
    fake.path.write_text("no program", encoding="utf-8")
    with pytest.raises(ToolchainError, match=r"cannot run .*adb: "):
        list_phones(str(fake.path))


def test_the_page_opens_over_usb_and_the_way_back_is_closed_in_the_end(artifact, phone, report, tmp_path):
    adb = phone(LIST, REVERSE, Exchange(VIEW, VIEWED, post=report), REMOVE)
    result = by_page(artifact, adb, tmp_path)
    assert [verdict.status for verdict in result.outcome.verdicts] == ["passed"]
    calls = phone.calls()
    assert calls[0] == "devices -l"
    number = calls[1].rpartition(":")[2]
    assert calls[1] == f"reverse tcp:{number} tcp:{number}"
    assert calls[2].startswith(f"shell am start -a android.intent.action.VIEW -d http://127.0.0.1:{number}/")
    assert calls[-1] == f"reverse --remove tcp:{number}"


def test_a_phone_that_is_unplugged_in_mid_run_finds_its_way_back(artifact, phone, report, tmp_path):
    adb = phone(
        LIST,
        dataclasses.replace(REVERSE, times=1),
        Exchange(VIEW, VIEWED),
        Exchange("reverse tcp", GONE, code=1, times=2),
        dataclasses.replace(REVERSE, post=report),
        REMOVE,
    )
    lines = []
    result = by_page(artifact, adb, tmp_path, lines)
    assert result.outcome.passed
    gone = f"the phone is gone (device '{SERIAL}' not found); plug it in again"
    assert lines.count(gone) == 1


def test_a_phone_that_cannot_open_the_page_ends_the_command(artifact, phone, tmp_path):
    none = "Error: Activity not started, unable to resolve Intent { act=android.intent.action.VIEW }\n"
    adb = phone(LIST, REVERSE, Exchange(VIEW, "Starting: Intent { }\n" + none), REMOVE)
    with pytest.raises(ToolchainError, match=r"no browser that opens a page \(Error: Activity not started"):
        by_page(artifact, adb, tmp_path)
    assert phone.calls()[-1].startswith("reverse --remove")


def test_a_way_back_that_android_refuses_ends_the_command(artifact, phone, tmp_path):
    adb = phone(LIST, Exchange("reverse tcp", "adb: error: more than one device/emulator\n", code=1), REMOVE)
    with pytest.raises(ToolchainError, match="adb reverse: more than one device/emulator"):
        by_page(artifact, adb, tmp_path)


def test_the_app_is_installed_given_the_artifact_and_its_report_is_judged(artifact, phone, report, tmp_path):
    (tmp_path / "demo.apk").write_bytes(b"PK")
    adb = phone(
        *APP,
        Exchange(r"install -r .*demo\.apk", "Performing Streamed Install\nSuccess\n"),
        Exchange("shell ls .*/reports", "", times=2),
        Exchange("shell ls .*/reports", f"{REPORT}.part\nother.error.txt\n", times=1),
        Exchange("shell ls .*/reports", f"{REPORT}\n"),
        Exchange(f"pull .*/reports/{REPORT} ", "1 file pulled, 0 skipped.\n", file=report),
        Exchange(f"shell rm -f .*/reports/{REPORT}"),
    )
    result = by_app(artifact, adb, tmp_path, apk=tmp_path / "demo.apk")
    assert result.outcome.passed
    files = "/sdcard/Android/data/dev.mobilevit.demo/files"
    folder = artifact.path.parent
    pushed = " ".join(str(folder / name) for name in ("mobilevit_xxs.fake", "manifest.json", "reference.safetensors"))
    remove = f"{files}/reports/{REPORT} {files}/reports/{NAME}.error.txt"
    assert phone.calls()[1:7] == [
        f"install -r {tmp_path}/demo.apk",
        "shell am start -W -S -n dev.mobilevit.demo/.MainActivity",  # Android makes the app's folder
        f"shell rm -rf {files}/artifacts/{NAME} {remove}",
        f"shell mkdir -p {files}/artifacts/{NAME} {files}/reports",
        f"push {pushed} {files}/artifacts/{NAME}/",
        f"shell am start -W -S -n dev.mobilevit.demo/.MainActivity --es verify {NAME}",
    ]
    assert phone.calls()[-1] == f"shell rm -f {files}/reports/{REPORT}"


@pytest.mark.parametrize(
    ("prints", "reason"),
    [
        (
            "adb: failed to install demo.apk: Failure [INSTALL_FAILED_UPDATE_INCOMPATIBLE: Existing package "
            "dev.mobilevit.demo signatures do not match newer version; ignoring!]\n",
            "has another signature; remove it first, with its data: adb uninstall dev.mobilevit.demo",
        ),
        (
            "adb: failed to install demo.apk: Failure [INSTALL_FAILED_USER_RESTRICTED: Install canceled by user]\n",
            "turn on 'Install via USB'",
        ),
        (
            "adb: failed to install demo.apk: Failure [INSTALL_PARSE_FAILED_NO_CERTIFICATES: Failed collecting]\n",
            "not an app, or not signed",
        ),
        ("adb: failed to install demo.apk: Failure [INSTALL_FAILED_NEW: Why]\n", "adb install: .*INSTALL_FAILED_NEW"),
        (GONE, "the phone is gone"),
    ],
)
def test_an_app_that_cannot_be_installed_says_why(prints, reason, artifact, phone, tmp_path):
    (tmp_path / "demo.apk").write_bytes(b"PK")
    adb = phone(*APP, Exchange("install -r", "Performing Streamed Install\n" + prints, code=1))
    with pytest.raises(ToolchainError, match=reason):
        by_app(artifact, adb, tmp_path, apk=tmp_path / "demo.apk")


def test_without_the_app_on_the_phone_its_file_is_asked_for(artifact, phone, tmp_path):
    adb = phone(LIST, Exchange("shell pm path", code=1))
    with pytest.raises(ToolchainError, match=r"the phone has no app dev.mobilevit.demo; give its file as `apk`"):
        by_app(artifact, adb, tmp_path)
    with pytest.raises(ArtifactError, match=r"missing.apk does not exist"):
        by_app(artifact, adb, tmp_path, apk=tmp_path / "missing.apk")


def test_an_artifact_that_does_not_arrive_is_an_error(artifact, phone, tmp_path):
    full = (
        "adb: error: failed to copy 'mobilevit_xxs.fake' to '/sdcard/x': remote write failed: No space left on device\n"
    )
    adb = phone(*APP[:5], Exchange("push", full, code=1))
    with pytest.raises(ToolchainError, match=r"adb push: failed to copy .*No space left on device"):
        by_app(artifact, adb, tmp_path)


def test_what_the_app_says_about_an_artifact_that_it_cannot_run_is_shown(artifact, phone, tmp_path):
    adb = phone(
        *APP,
        Exchange("shell ls", f"{NAME}.error.txt\n"),
        Exchange(f"shell cat .*/reports/{NAME}.error.txt", "the file is for another\x1b[2J runtime\n"),
    )
    with pytest.raises(ToolchainError, match=r"the app cannot run tiny-fp32: the file is for another\[2J runtime$"):
        by_app(artifact, adb, tmp_path)


def test_an_app_that_does_not_start_is_an_error(artifact, phone, tmp_path):
    missing = (
        "Error type 3\nError: Activity class {dev.mobilevit.demo/dev.mobilevit.demo.MainActivity} does not exist.\n"
    )
    adb = phone(*APP[:2], Exchange("shell am start", missing))
    with pytest.raises(ToolchainError, match="does not start; install it again with `apk`"):
        by_app(artifact, adb, tmp_path)


def test_a_phone_that_is_unplugged_while_the_app_runs_may_come_back(artifact, phone, report, tmp_path):
    adb = phone(
        *APP,
        Exchange("shell ls", GONE, code=1, times=2),
        Exchange("shell ls", f"{REPORT}\n"),
        Exchange("pull", file=report),
        Exchange("shell rm -f", GONE, code=1),
    )
    lines = []
    assert by_app(artifact, adb, tmp_path, lines).outcome.passed
    assert len([line for line in lines if "plug it in again" in line]) == 1


def test_an_app_that_never_reports_ends_with_the_time(artifact, phone, tmp_path):
    adb = phone(*APP, Exchange("shell ls", "ls: /sdcard/x: No such file or directory\n", code=1))
    with pytest.raises(ToolchainError, match=r"no phone reported within 0\.1 seconds"):
        by_app(artifact, adb, tmp_path, timeout=0.1)


def test_a_report_of_the_app_is_read_without_trust(artifact, phone, tmp_path):
    (tmp_path / "edited").write_bytes(seal(device_report(artifact)).replace(b"Pixel 8", b"Pixel 9"))
    adb = phone(*APP, Exchange("shell ls", f"{REPORT}\n"), Exchange("pull", file=str(tmp_path / "edited")))
    with pytest.raises(RequestError, match="it was edited or damaged"):
        by_app(artifact, adb, tmp_path)


def test_a_file_that_was_changed_since_is_not_sent(artifact, phone, tmp_path):
    shutil.copytree(artifact.path.parent, tmp_path / NAME)
    (tmp_path / NAME / artifact.path.name).write_bytes(b"another file")
    adb = phone(*APP)
    with pytest.raises(ArtifactError, match="is not the file that its manifest describes"):
        by_app(tmp_path / NAME, adb, tmp_path)
    assert phone.calls() == ["devices -l"]


@pytest.mark.parametrize("name", ["a b", "a;reboot", "$(reboot)", "é", "a'b"])
def test_a_name_that_the_phones_shell_would_act_on_is_refused(name, artifact, phone, tmp_path):
    shutil.copytree(artifact.path.parent, tmp_path / name)
    adb = phone(*APP)
    with pytest.raises(ArtifactError, match="rename the folder"):
        by_app(tmp_path / name, adb, tmp_path)
    assert phone.calls() == ["devices -l"]
