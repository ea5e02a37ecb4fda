"""What the extras install on a Python and a platform, and what is said of the rest."""

from __future__ import annotations

import importlib.metadata
import re
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mobilevit_sdk.formats import toolchain, wheels
from mobilevit_sdk.formats.wheels import WHEELS, Machine, no_wheel

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
CONSTRAINTS = PYPROJECT.with_name("constraints.txt")
NEW = {"Linux x86_64": (2, 36), "Linux aarch64": (2, 36), "Darwin arm64": (26, 1), "Windows AMD64": ()}
PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14))


def requirements() -> dict[str, Requirement]:
    """Those of pyproject.toml for the distributions of the table."""
    lines = re.findall(r'^\s+"([^"]+)",', PYPROJECT.read_text(encoding="utf-8"), re.MULTILINE)
    found = {name: Requirement(line) for name in WHEELS for line in lines if re.match(rf"{name}\b(?!-)", line)}
    assert set(found) == set(WHEELS)
    return found


def environment(python: tuple[int, ...], machine: str) -> dict[str, str]:
    system, processor = machine.split()
    version = ".".join(map(str, python))
    platforms = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}
    return {"python_version": version, "sys_platform": platforms[system], "platform_machine": processor, "extra": ""}


@pytest.mark.parametrize("name", WHEELS)
def test_pip_is_asked_for_a_toolchain_exactly_where_it_has_a_wheel(name: str) -> None:
    marker = requirements()[name].marker
    assert marker is not None
    for python, (machine, version) in product(PYTHONS, NEW.items()):
        available = no_wheel(name, Machine(python, machine, version)) is None
        assert marker.evaluate(environment(python, machine)) == available, (python, machine)


def test_each_extra_asks_on_each_python_and_system_only_for_what_is_there_and_for_versions_that_were_tested():
    pinned = [Requirement(line.partition("#")[0]) for line in CONSTRAINTS.read_text().splitlines() if "==" in line]
    checked = 0
    for line in map(Requirement, importlib.metadata.requires("mobilevit-sdk") or ()):
        extra = re.search(r'extra == "(\w+)"', str(line.marker or ""))
        for python, (machine, version) in product(PYTHONS, NEW.items()):
            where = environment(python, machine) | {"extra": extra[1] if extra else ""}
            if line.marker and not line.marker.evaluate(where):
                continue
            assert no_wheel(line.name, Machine(python, machine, version)) is None, (line, where)
            for pin in (pin for pin in pinned if canonicalize_name(pin.name) == canonicalize_name(line.name)):
                if pin.marker is None or pin.marker.evaluate(where):
                    (tested,) = pin.specifier
                    assert line.specifier.contains(tested.version, prereleases=True), (line, pin)
                    checked += 1
    assert checked > 500


@pytest.mark.parametrize(
    ("name", "python", "system", "version", "reason"),
    [
        ("coremltools", (3, 14), "Linux x86_64", (2, 36), "Python 3.14: use 3.10 to 3.13"),
        ("coremltools", (3, 11), "Linux aarch64", (2, 36), "Linux aarch64: use Linux x86-64 or macOS on Apple silicon"),
        ("litert-torch", (3, 11), "Windows AMD64", (), "Windows AMD64: use Linux x86-64 or macOS on Apple silicon"),
        ("coreai-torch", (3, 10), "Linux x86_64", (2, 36), "Python 3.10: use 3.11 to 3.14"),
        ("coreai-core", (3, 11), "Linux x86_64", (2, 31), "glibc 2.31: use glibc 2.34 or newer"),
        ("coreai-core", (3, 11), "Linux x86_64", (), "a Linux without glibc: use glibc 2.34 or newer"),
        ("coreai-core", (3, 11), "Darwin arm64", (15, 2), "macOS 15.2: use macOS 26 or newer"),
    ],
)
def test_one_line_says_what_has_no_wheel_and_what_to_use(
    name: str, python: tuple[int, ...], system: str, version: tuple[int, ...], reason: str
) -> None:
    assert no_wheel(name, Machine(python, system, version)) == (
        f"{name} {WHEELS[name].release} has no wheel for {reason}"
    )


def test_nobody_is_sent_to_an_install_that_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(distribution: str) -> str:
        raise toolchain.importlib.metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(toolchain.importlib.metadata, "version", missing)
    monkeypatch.setattr(wheels, "this_machine", lambda: Machine((3, 14), "Linux x86_64", (2, 36)))
    assert toolchain.installed("coremltools", extra="coreml").reason == (
        "coremltools 9.0 has no wheel for Python 3.14: use 3.10 to 3.13"
    )
    assert toolchain.installed("litert-torch", extra="tflite").reason == (
        "litert-torch is not installed: pip install 'mobilevit-sdk[tflite]'"
    )


@pytest.mark.parametrize(
    ("system", "processor", "libc", "mac", "machine"),
    [
        ("Linux", "x86_64", ("glibc", "2.36"), "", ("Linux x86_64", (2, 36))),
        ("Linux", "x86_64", ("", ""), "", ("Linux x86_64", ())),
        ("Darwin", "arm64", ("", ""), "15.6", ("Darwin arm64", (15, 6))),
        ("Windows", "AMD64", ("", ""), "", ("Windows AMD64", ())),
    ],
)
def test_this_machine_is_read_from_the_system(
    system: str,
    processor: str,
    libc: tuple[str, str],
    mac: str,
    machine: tuple[str, tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {"system": system, "machine": processor, "libc_ver": libc, "mac_ver": (mac, ("", "", ""), "")}
    for name, answer in answers.items():
        monkeypatch.setattr(wheels.platform, name, lambda answer=answer: answer)
    found = wheels.this_machine()
    assert (found.system, found.version) == machine
