"""The script that brings Swift: it takes nothing half made for whole, and says in one line why there is no Swift."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mobilevit_sdk.demos import demo_folder

SCRIPT = demo_folder("ios_demo") / "swift-on-debian.sh"
TOOLS = ["bash", "dirname", "env", "uname", "mkdir", "mv", "rm", "flock", "cat", "chmod", "realpath", "touch", "true"]
SCRIPTS = Path("/usr/share/debootstrap/scripts/trixie")

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason="the script's tools are those of Linux"
)


class Machine:
    """A PATH of stand-ins, so that the script finds the machine that a test describes."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.cache, self.calls = folder / "bin", folder / "cache", folder / "calls"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        self.has("id", "echo 0")
        self.has("apt-get", "exit 0")
        self.has("unshare", 'while [ "$1" != -- ]; do shift; done; shift; export IN_NAMESPACE=yes; exec "$@"')
        self.has("mount", f'echo "$IN_NAMESPACE $*" >> {self.calls}')
        self.has("debootstrap", 'mkdir -p "${@: -2:1}/root"')
        self.has("chroot", "exit 0")

    def has(self, tool: str, script: str) -> None:
        (self.bin / tool).write_text(f"#!/bin/bash\n{script}\n")
        (self.bin / tool).chmod(0o755)

    def lacks(self, tool: str) -> None:
        (self.bin / tool).unlink()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin), "XDG_CACHE_HOME": str(self.cache), "HOME": str(self.cache)}
        return subprocess.run(["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True)

    @property
    def swift(self) -> Path:
        return self.cache / "mobilevit-sdk" / "swift-trixie"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 69, done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


def test_a_swift_of_the_machine_is_used_as_it_is(machine):
    machine.has("swift", 'echo "own $*"; exit 3')
    done = machine.run("swift", "build", "a b")
    assert (done.returncode, done.stdout) == (3, "own build a b\n")
    assert machine.run().returncode == 0
    assert not machine.cache.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda machine: machine.has("uname", "echo Darwin"), "install Xcode"),
        (lambda machine: machine.has("id", "echo 1000"), "as root on Debian"),
        (lambda machine: machine.lacks("apt-get"), "not a Debian-like system"),
        (lambda machine: machine.has("unshare", "exit 1"), "may not mount"),
    ],
)
def test_what_is_missing_is_said_in_one_line_and_nothing_is_made(machine, change, words):
    (machine.bin / "uname").unlink()
    machine.has("uname", "echo Linux")
    change(machine)
    assert words in refusal(machine.run("swift", "build"))
    assert not machine.cache.exists()


def test_without_installing_nothing_is_fetched(machine):
    assert "it is not installed" in refusal(machine.run("--no-install", "swift", "build"))
    assert not machine.cache.exists()


def test_a_debootstrap_that_cannot_be_installed_is_said(machine):
    machine.lacks("debootstrap")
    machine.has("apt-get", "exit 100")
    assert "apt-get cannot install debootstrap" in refusal(machine.run("swift", "build"))
    assert not machine.swift.exists()


@pytest.mark.skipif(not SCRIPTS.exists(), reason="debootstrap is not installed")
@pytest.mark.parametrize("broken", ["debootstrap", "chroot"])
def test_a_half_made_system_is_never_taken_for_whole(machine, broken):
    whole = (machine.bin / broken).read_text()
    machine.has(
        broken, 'mkdir -p "${@: -2:1}/root"; touch "${@: -2:1}/half"; exit 1' if broken == "debootstrap" else "exit 1"
    )
    for _ in range(2):
        assert "see " in refusal(machine.run("swift", "build"))
        assert not machine.swift.exists()
    machine.has(broken, whole.split("\n", 1)[1])
    assert machine.run("swift", "build").returncode == 0
    assert machine.swift.is_dir()
    assert not (machine.swift / "half").exists()


@pytest.mark.skipif(not SCRIPTS.exists(), reason="debootstrap is not installed")
def test_the_second_run_fetches_nothing_and_gives_the_commands_status(machine):
    assert machine.run("swift", "build").returncode == 0
    machine.has("debootstrap", "exit 1")
    machine.has("chroot", 'echo "$@"; exit 7')
    done = machine.run("swift", "build", "a b")
    assert done.returncode == 7
    assert done.stdout.startswith(f"{machine.swift} /usr/bin/env -C {Path.cwd()} ")
    assert done.stdout.endswith(" swift build a b\n")


@pytest.mark.skipif(not SCRIPTS.exists(), reason="debootstrap is not installed")
def test_mounts_are_made_in_a_namespace_of_the_commands_own(machine):
    """So they end with it: none is left behind that a later `rm -rf` could follow. debootstrap mounts /proc too."""
    machine.has("debootstrap", f'mkdir -p "${{@: -2:1}}/root"; echo "$IN_NAMESPACE debootstrap" >> {machine.calls}')
    assert machine.run("swift", "build").returncode == 0
    mounts = [line for line in machine.calls.read_text().splitlines() if "--" in line or "debootstrap" in line]
    assert len(mounts) >= 4
    assert all(line.startswith("yes ") for line in mounts)
