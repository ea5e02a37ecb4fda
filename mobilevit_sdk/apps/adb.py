"""Android's debug bridge: which phone is attached, and commands to it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.text import one_line

COMMAND_SECONDS = 120.0  # for one command, which is seconds even for an app to be installed
_SDK_FOLDERS = ("~/Android/Sdk", "~/Library/Android/sdk", "~/AppData/Local/Android/Sdk")  # where Android Studio puts it
# How adb says that a phone which was there is not: it was unplugged, or its cable or its system is starting anew.
_GONE = re.compile(
    r"device '.*' not found|no devices|device (offline|unauthorized|still )|error: closed|protocol fault"
)
_REMEDIES = {  # a phone's state in `adb devices` -> what to do
    "unauthorized": "unlock the phone and allow USB debugging for this computer",
    "authorizing": "unlock the phone and allow USB debugging for this computer",
    "offline": "unplug the phone and plug it in again, or restart it",
    "no permissions": "this user may not use the USB device: see https://developer.android.com/studio/run/device",
    "recovery": "start the phone's system",
    "sideload": "start the phone's system",
    "bootloader": "start the phone's system",
}


class PhoneGoneError(ToolchainError):
    """The phone does not answer: it was unplugged, or is starting."""


@dataclass(frozen=True)
class Phone:
    """A line of `adb devices -l`: serial number, state such as `device` or `unauthorized`, and the model's name."""

    serial: str
    state: str
    model: str | None


@dataclass(frozen=True)
class Adb:
    """Commands to one phone."""

    program: str
    serial: str

    def run(self, *arguments: str) -> str:
        """Run `adb` with these arguments and return what it prints.

        Raises PhoneGoneError when the phone is not there any more, and ToolchainError, with adb's own last line, for
        every other failure.
        """
        return _run(self.program, ("-s", self.serial), arguments)

    def shell(self, *words: str) -> str:
        """Run a command on the phone, whose shell reads the words: they hold nothing that it would act on."""
        return self.run("shell", *words)


def find_adb(given: Path | None = None) -> str:
    """The program: `given`, the one on PATH, or that of an Android SDK. Raises RequestError or ToolchainError."""
    if given is not None:
        if (found := shutil.which(str(given))) is None:
            raise RequestError(f"{given} is not a program; give the path of adb as `adb_path`")
        return found
    if found := shutil.which("adb"):
        return found
    roots = (os.environ.get("ANDROID_HOME"), os.environ.get("ANDROID_SDK_ROOT"), *_SDK_FOLDERS)
    for root in filter(None, roots):
        if found := shutil.which(str(Path(root).expanduser() / "platform-tools" / "adb")):
            return found
    raise ToolchainError(
        "adb is not installed: get Android Studio (or apt-get install adb, brew install android-platform-tools), "
        "or give its path as `adb_path`"
    )


def attached_phone(program: str, serial: str | None = None) -> Adb:
    """The phone that is attached, or the one with this serial number.

    Raises RequestError where several are and none is named, and ToolchainError where none is or it is not ready.
    """
    phones = list_phones(program)
    if serial is not None:
        chosen = [phone for phone in phones if phone.serial == serial]
        if not chosen:
            raise RequestError(f"no phone {serial!r} is attached; attached: {_listed(phones) or 'none'}")
    else:
        chosen = phones
        ready = [phone for phone in phones if phone.state == "device"]
        if len(ready) > 1:
            raise RequestError(f"several phones are attached, give one as `serial`: {_listed(ready)}")
        chosen = ready or phones
    if not chosen:
        raise ToolchainError(
            "no phone is attached: connect it by USB and turn on USB debugging in its developer options"
        )
    phone = chosen[0]
    if phone.state != "device":
        remedy = next((remedy for state, remedy in _REMEDIES.items() if phone.state.startswith(state)), "restart it")
        raise ToolchainError(f"the phone {_listed([phone])} is {one_line(phone.state, 60)}: {remedy}")
    return Adb(program, phone.serial)


def list_phones(program: str) -> list[Phone]:
    """The phones and emulators that adb knows. Raises ToolchainError where it does not work."""
    printed = _run(program, (), ("devices", "-l"))
    lines = printed.partition("List of devices attached")[2].splitlines()
    phones = []
    for line in lines:
        if not line.strip() or line.startswith("*"):  # what adb says about its own server
            continue
        serial, *words = line.split()
        facts = dict(word.split(":", 1) for word in words if ":" in word)
        state = "no permissions" if words[:2] == ["no", "permissions"] else words[0] if words else "unknown"
        model = facts.get("model")
        phones.append(Phone(serial, state, model.replace("_", " ") if model else None))
    return phones


def _run(program: str, which: tuple[str, ...], arguments: tuple[str, ...]) -> str:
    """See `Adb.run`; `which` chooses the phone."""
    name = arguments[0]
    try:
        done = subprocess.run(
            [program, *which, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolchainError(
            f"adb {name} did not end within {COMMAND_SECONDS:g} seconds; unlock the phone, look for a question on its "
            f"screen, or unplug it and plug it in again"
        ) from None
    except OSError as error:
        raise ToolchainError(f"cannot run {program}: {error.strerror or error}") from error
    printed = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        last = one_line(lines[-1], 300) if lines else f"exit code {done.returncode}"
        words = last.removeprefix("adb: ").removeprefix("error: ")
        if _GONE.search(last):
            raise PhoneGoneError(f"the phone is gone ({words}); plug it in again")
        raise ToolchainError(f"adb {name}: {words}")
    return printed


def _listed(phones: list[Phone]) -> str:
    return ", ".join(one_line(f"{phone.serial} ({phone.model})" if phone.model else phone.serial) for phone in phones)
