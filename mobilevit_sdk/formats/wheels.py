"""Where the toolchains have wheels, so that nobody is sent to a `pip install` that cannot work.

The markers in pyproject.toml say the same to pip, which then installs what exists; a test compares the two.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass

Version = tuple[int, ...]


@dataclass(frozen=True)
class Wheels:
    """The wheels of one release: Pythons, and on each system the least version of its C library or of macOS."""

    release: str
    systems: dict[str, Version]  # by "system machine", as `platform` has them
    python: tuple[Version, Version] = ((3, 10), (3, 14))  # the oldest and the newest


@dataclass(frozen=True)
class Machine:
    """What decides whether a wheel fits."""

    python: Version
    system: str  # such as "Linux x86_64"
    version: Version  # of macOS, or of glibc; () for a Linux with another C library


_LINUX, _MAC = "Linux x86_64", "Darwin arm64"

# Asked of the registry with `pip install --dry-run --only-binary=:all: --python-version ... --platform ...`.
WHEELS = {
    "coremltools": Wheels("9.0", {_LINUX: (2, 17), _MAC: (11,)}, ((3, 10), (3, 13))),
    "coreai-core": Wheels("1.0.0b3", {_LINUX: (2, 34), _MAC: (26,)}, ((3, 11), (3, 14))),
    # These two are Python alone; what they import has wheels: coreai-core, and litert-converter 0.5.0.
    "coreai-torch": Wheels("0.4.3", {_LINUX: (2, 34), _MAC: (26,)}, ((3, 11), (3, 14))),
    "litert-torch": Wheels("0.10", {_LINUX: (2, 27), _MAC: (12,)}),
}
_NAMES = {"Linux x86_64": "Linux x86-64", "Darwin arm64": "macOS on Apple silicon"}


def this_machine() -> Machine:
    """The interpreter and the system that run this."""
    system = platform.system()
    library, version = platform.libc_ver() if system == "Linux" else ("", platform.mac_ver()[0])
    known = version if library == "glibc" or system != "Linux" else ""
    return Machine(sys.version_info[:2], f"{system} {platform.machine()}", _numbers(known))


def no_wheel(distribution: str, machine: Machine | None = None) -> str | None:
    """Why the distribution cannot be installed on the machine, by default this one, in one line with what to do.

    None where it has a wheel, or nothing is known of its wheels.
    """
    wheels, machine = WHEELS.get(distribution), machine or this_machine()
    if wheels is None:
        return None
    reason = f"{distribution} {wheels.release} has no wheel for"
    if machine.system not in wheels.systems:
        return f"{reason} {machine.system}: use {' or '.join(_NAMES[system] for system in wheels.systems)}"
    least, mac = wheels.systems[machine.system], machine.system.startswith("Darwin")
    if machine.version < least:
        name = "macOS" if mac else "glibc"
        found = f"{name} {_text(machine.version)}" if machine.version else "a Linux without glibc"
        return f"{reason} {found}: use {name} {_text(least)} or newer"
    oldest, newest = wheels.python
    if not oldest <= machine.python <= newest:
        return f"{reason} Python {_text(machine.python)}: use {_text(oldest)} to {_text(newest)}"
    return None


def _text(version: Version) -> str:
    return ".".join(map(str, version))


def _numbers(text: str) -> Version:
    parts: Sequence[str] = text.split(".")
    return tuple(int(part) for part in parts if part.isdigit())
