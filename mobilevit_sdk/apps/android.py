"""The page, or the app, on an Android phone that is attached by USB."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mobilevit_sdk.apps.adb import Adb, PhoneGoneError
from mobilevit_sdk.apps.eligibility import artifact_name, check_artifacts
from mobilevit_sdk.apps.inbox import Inbox
from mobilevit_sdk.apps.network import LOOPBACK
from mobilevit_sdk.apps.phone import OUT, TIMEOUT_SECONDS, PhoneResult, Say, result_of, serve
from mobilevit_sdk.apps.platforms import ANDROID
from mobilevit_sdk.apps.site import find_web_artifacts
from mobilevit_sdk.artifacts.artifact import MANIFEST, Artifact, ArtifactLike, find_artifacts
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.parity import THRESHOLDS, Threshold
from mobilevit_sdk.parity.device import MAX_BYTES, SUFFIX
from mobilevit_sdk.text import one_line

PACKAGE = "dev.mobilevit.demo"
FILES = f"/sdcard/Android/data/{PACKAGE}/files"
REPORTS = f"{FILES}/reports"
POLL_SECONDS = 1.0
_INSTALL_REMEDIES = {  # what adb says -> what to do
    "INSTALL_FAILED_UPDATE_INCOMPATIBLE": "the app on the phone has another signature; remove it first, with its data: "
    f"adb uninstall {PACKAGE}",
    "INSTALL_FAILED_VERSION_DOWNGRADE": f"the app on the phone is newer; remove it first: adb uninstall {PACKAGE}",
    "INSTALL_FAILED_OLDER_SDK": "the phone's Android is older than the app allows",
    "INSTALL_FAILED_NO_MATCHING_ABIS": "the app has no libraries for the phone's processor",
    "INSTALL_FAILED_INSUFFICIENT_STORAGE": "the phone has too little free space",
    "INSTALL_FAILED_USER_RESTRICTED": "the phone does not allow it: turn on 'Install via USB' in its developer options",
    "INSTALL_PARSE_FAILED": "the file is not an app, or not signed",
    "failed to stat": "the file is missing",
}


def verify_page_over_usb(
    artifacts: ArtifactLike | Sequence[ArtifactLike],
    adb: Adb,
    *,
    port: int = 0,
    out: Path | str = OUT,
    keep: bool = False,
    timeout: float = TIMEOUT_SECONDS,
    thresholds: Mapping[str, Threshold] | None = None,
    say: Say,
    poll: float = POLL_SECONDS,
) -> PhoneResult:
    """As `verify_on_phones`, for the phone at `adb`: it reaches this machine as 127.0.0.1, and its browser opens.

    To the browser that is as good as https, without a certificate. A phone that is unplugged finds this machine again
    when it is back. Raises ToolchainError where the phone cannot open the page.
    """
    served = find_web_artifacts(artifacts, say)
    inbox = Inbox(served, Path(out), thresholds or THRESHOLDS, say)
    reversed_ports: list[str] = []

    async def open_page(address: str) -> None:
        number = re.sub(r".*:(\d+)/.*", r"\1", address)
        reversed_ports.append(f"tcp:{number}")
        command = ("reverse", f"tcp:{number}", f"tcp:{number}")
        await asyncio.to_thread(adb.run, *command)
        started = await asyncio.to_thread(adb.shell, "am", "start", "-a", "android.intent.action.VIEW", "-d", address)
        _check_start(started, "the phone has no browser that opens a page")
        say(f"the page is open on the phone {adb.serial}")
        await _hold(adb, command, say, poll)

    try:
        return serve(
            served,
            host=LOOPBACK,
            port=port,
            https=False,
            inbox=inbox,
            keep=keep,
            timeout=timeout,
            opened=open_page,
            say=say,
        )
    finally:
        for number in reversed_ports:
            _quietly(adb, "reverse", "--remove", number)


async def _hold(adb: Adb, command: tuple[str, ...], say: Say, poll: float) -> None:
    """Renew the way back for as long as this runs: a phone that was unplugged has forgotten it."""
    gone = False
    while True:
        await asyncio.sleep(poll)
        try:
            await asyncio.to_thread(adb.run, *command)
        except PhoneGoneError as error:
            if not gone:
                say(str(error))
            gone = True
        else:
            if gone:
                say("the phone is back; send the report again from the page")
            gone = False


def verify_with_app(
    artifacts: ArtifactLike | Sequence[ArtifactLike],
    adb: Adb,
    *,
    apk: Path | None = None,
    out: Path | str = OUT,
    timeout: float = TIMEOUT_SECONDS,
    thresholds: Mapping[str, Threshold] | None = None,
    say: Say,
    poll: float = POLL_SECONDS,
) -> PhoneResult:
    """Run artifacts in the demo app on the phone at `adb`, one after the other, and judge the reports that it writes.

    With `apk`, the app is installed first. `timeout` seconds are for all of them; a phone that is unplugged meanwhile
    may come back. Raises ArtifactError for what an Android phone cannot take, and ToolchainError where the app is
    missing or fails.
    """
    found = find_artifacts(artifacts)
    check_artifacts(found, further=ANDROID.further_outputs)
    for artifact in found:
        _check(artifact)
    inbox = Inbox(found, Path(out), thresholds or THRESHOLDS, say)
    if apk is not None:
        _install(adb, apk, say)
    elif PACKAGE not in _output(adb, "pm", "path", PACKAGE):
        raise ToolchainError(f"the phone has no app {PACKAGE}; give its file as `apk`")
    _start(adb)  # it makes its folder, in which Android lets the app read what adb writes; in one of adb's it may not
    end = time.monotonic() + timeout
    for artifact in found:
        _push(adb, artifact, say)
        if not _run(adb, artifact, inbox, end, say, poll):
            break
    return result_of(inbox, timeout)


def _check(artifact: Artifact) -> None:
    if artifact.path.is_dir():
        raise ArtifactError(f"{artifact.path} is a package for Apple's systems; give a tflite or executorch artifact")
    artifact.require_unchanged()


def _install(adb: Adb, apk: Path, say: Say) -> None:
    if not apk.is_file():
        raise ArtifactError(f"{apk} does not exist; give the app's .apk file")
    say(f"installing {apk.name}")
    try:
        adb.run("install", "-r", str(apk))
    except PhoneGoneError:
        raise
    except ToolchainError as error:
        for sign, remedy in _INSTALL_REMEDIES.items():
            if sign in str(error):
                raise ToolchainError(f"{apk.name} cannot be installed ({sign}): {remedy}") from error
        raise


def _push(adb: Adb, artifact: Artifact, say: Say) -> None:
    folder, name = artifact.path.parent, artifact_name(artifact)
    target = f"{FILES}/artifacts/{name}"
    adb.shell("rm", "-rf", target, *_answers(name))
    adb.shell("mkdir", "-p", target, REPORTS)
    say(f"sending {name} to the phone")
    adb.run("push", *(str(folder / file) for file in (artifact.path.name, MANIFEST, REFERENCE)), f"{target}/")


def _run(adb: Adb, artifact: Artifact, inbox: Inbox, end: float, say: Say, poll: float) -> bool:
    """Whether the app wrote a report before the time was up; it has been taken then."""
    name = artifact_name(artifact)
    _start(adb, "--es", "verify", name)
    say(f"the app runs {name}")
    report, error = _answers(name)
    gone = False
    while time.monotonic() < end:
        try:
            written = _output(adb, "ls", REPORTS)
        except PhoneGoneError as lost:
            if not gone:
                say(str(lost))
            gone = True
        else:
            gone = False
            files = written.split()
            if Path(error).name in files:
                raise ToolchainError(f"the app cannot run {name}: {one_line(adb.shell('cat', error), 500)}")
            if Path(report).name in files:
                inbox.take(_pull(adb, report))
                _quietly(adb, "shell", "rm", "-f", report)
                return True
        time.sleep(poll)
    return False


def _start(adb: Adb, *extras: str) -> None:
    started = adb.shell("am", "start", "-W", "-S", "-n", f"{PACKAGE}/.MainActivity", *extras)
    _check_start(started, f"the app {PACKAGE} does not start; install it again with `apk`")


def _pull(adb: Adb, remote: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as scratch:
        local = Path(scratch) / "report.json"
        adb.run("pull", remote, str(local))
        with local.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)


def _answers(name: str) -> tuple[str, str]:
    """Where the app writes its report, and why there is none; each is whole when it is there."""
    return f"{REPORTS}/{name}{SUFFIX}", f"{REPORTS}/{name}.error.txt"


def _check_start(printed: str, reason: str) -> None:
    """Raise ToolchainError where `am start` failed, which older systems tell by its text alone."""
    for line in printed.splitlines():
        if line.startswith("Error"):
            raise ToolchainError(f"{reason} ({one_line(line, 200)})")


def _output(adb: Adb, *words: str) -> str:
    """What a command on the phone prints, also where it fails."""
    try:
        return adb.shell(*words)
    except PhoneGoneError:
        raise
    except ToolchainError:
        return ""


def _quietly(adb: Adb, *arguments: str) -> None:
    """Tidy up; a phone that is gone has nothing to tidy."""
    with suppress(ToolchainError):
        adb.run(*arguments)
