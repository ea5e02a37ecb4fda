"""An ARM64 Linux on a machine of another kind: QEMU's user mode and the files of a few Debian packages, without root.

It runs the ARM builds of runtimes, which compute with other kernels than this machine's processor. It says nothing
about their speed.
"""

from __future__ import annotations

import json
import platform
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mobilevit_converters.emulation.debian import download_from, unpack, unpack_files, version_of
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.files import cache_folder, replacing

REQUIREMENT = "arm64"  # in `mobilevit doctor --install`
HINT = f"mobilevit doctor --install {REQUIREMENT}"

RELEASE = "trixie"  # its QEMU is 10; the one before, 7.2, crashes in LiteRT
EMULATOR, EMULATOR_FILE = "qemu-user:amd64", "usr/bin/qemu-aarch64"  # linked statically: it needs nothing else
PYTHON = "3.13"
PROCESSOR = "cortex-a76"  # of many phones: float16 and dot products, no SVE
# Python with only the modules that a runtime needs, and the libraries that those link to.
PACKAGES = tuple(
    f"{name}:arm64"
    for name in (
        f"python{PYTHON}-minimal",
        f"libpython{PYTHON}-minimal",
        f"libpython{PYTHON}-stdlib",
        *("libc6", "libgcc-s1", "libstdc++6"),
        *("libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libssl3t64", "libzstd1", "zlib1g"),
    )
)

# All that a program inside sees: none of this machine's own libraries and settings.
ENVIRONMENT = {"LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"}
ON_REQUEST = f"an emulated {PROCESSOR}, and slow"
TIMEOUT = 1800.0  # seconds for an image; emulation takes hundreds of times as long as the processor itself
CHECK_TIMEOUT = 300.0  # seconds, for a program that only has to start


@dataclass(frozen=True)
class EmulatedMachine:
    """The emulator and its root, in a folder."""

    folder: Path
    options: tuple[str, ...] = ()  # of the emulator, further ones

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def command(self, program: Path | str, *arguments: str) -> list[str]:
        """What runs an ARM64 program. Paths within the root are those of its files; all others are this machine's."""
        emulator = [str(self.folder / "qemu-aarch64"), *self.options, "-cpu", PROCESSOR, "-L", str(self.root)]
        return [*emulator, str(program), *arguments]

    @property
    def python(self) -> list[str]:
        return self.command(self.root / f"usr/bin/python{PYTHON}")

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packages. Raises OSError and ValueError where the folder is incomplete."""
        found: dict[str, str] = json.loads((self.folder / "versions.json").read_text(encoding="utf-8"))
        return found

    @property
    def version(self) -> str | None:
        """QEMU's name and version; None where the machine is missing or incomplete."""
        with suppress(OSError, ValueError, LookupError):
            return "QEMU " + self.versions[EMULATOR].split("+")[0]
        return None

    def runs(self, command: Sequence[str]) -> bool:
        """Whether a command succeeds."""
        with suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=CHECK_TIMEOUT)
            return done.returncode == 0
        return False


def emulated() -> EmulatedMachine:
    """Where the machine is, or is to be. Raises ToolchainError where this one cannot or need not emulate it."""
    here = f"{platform.system()} {platform.machine()}"
    if platform.machine().lower() in ("aarch64", "arm64"):
        raise ToolchainError("this machine is ARM64 itself: its own runtimes are the ARM builds")
    if here != "Linux x86_64":
        raise ToolchainError(f"ARM64 is emulated on Linux x86_64, and this is {here}")
    return EmulatedMachine(part("machine"))


def part(name: str) -> Path:
    """The folder in the user's cache for one component. Raises RequestError without a home."""
    return cache_folder() / REQUIREMENT / name


def install(on_progress: Callable[[str], None]) -> EmulatedMachine:
    """Install the machine into the user's cache folder, unless one that works is there. Raises ToolchainError."""
    machine = emulated()
    if machine.version and machine.runs([*machine.python, "-I", "-S", "-c", ""]):
        on_progress(f"{machine.version} is already in {machine.folder}")
        return machine
    with tempfile.TemporaryDirectory() as scratch, replacing(machine.folder) as fresh:
        archives = download_from(RELEASE, [EMULATOR, *PACKAGES], Path(scratch), on_progress)
        on_progress("unpacking them")
        new = EmulatedMachine(fresh)
        (new.root / "usr/lib").mkdir(parents=True)
        (new.root / "lib").symlink_to("usr/lib")  # where ARM64 programs look for their loader
        unpack_files(archives[EMULATOR], [EMULATOR_FILE], fresh)
        (fresh / "qemu-aarch64").chmod(0o755)
        for name in PACKAGES:
            unpack(archives[name], new.root)
        versions = {name: version_of(archive) for name, archive in archives.items()}
        (fresh / "versions.json").write_text(json.dumps(versions, indent=2), encoding="utf-8")
        if not new.runs([*new.python, "-I", "-S", "-c", "import ctypes, select, struct, threading"]):
            raise ToolchainError(f"the Python {PYTHON} of Debian {RELEASE} does not run on {new.version} here")
    on_progress(f"{machine.version} and Python {PYTHON} for ARM64 in {machine.folder}")
    return machine
