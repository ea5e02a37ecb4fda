"""LiteRT.js, which runs .tflite files in a browser: the two packages of npm, as a folder that a page can use."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.files import cache_folder, replacing
from mobilevit_sdk.processes.process import stderr_tail

VERSION = "2.5.3"  # tested: others may have other wasm files
REQUIREMENT = "litert-web"  # in `mobilevit doctor --install`
HINT = f"mobilevit doctor --install {REQUIREMENT}"
TIMEOUT = 900.0  # seconds; 12 MB from a slow network


@dataclass(frozen=True)
class Package:
    """A package of npm, the SHA-512 of its archive as npm writes it, and which of its files go where."""

    name: str
    integrity: str
    files: dict[str, str]  # within the archive -> within the folder

    @property
    def archive(self) -> str:
        """The name that `npm pack` gives it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{VERSION}.tgz"


_WASM = ("litert_wasm_internal", "litert_wasm_compat_internal", "litert_wasm_threaded_internal")
CORE = Package(
    "@litertjs/core",
    "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    {"dist/index.js": "core/index.js", "package.json": "core/package.json"}
    | {f"wasm/{name}.{kind}": f"wasm/{name}.{kind}" for name in _WASM for kind in ("js", "wasm")},
)
UTILITIES = Package(
    "@litertjs/wasm-utils",
    "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
    {"dist/index.js": "core/wasm-utils.js"},
)
# A page finds the second package by its path: names would need an import map, which strict policies refuse.
_BARE_IMPORT, _RELATIVE_IMPORT = b'from "@litertjs/wasm-utils"', b'from "./wasm-utils.js"'


def installed_version() -> str | None:
    """The version in the user's cache folder, where it is the wanted one and complete."""
    with suppress(OSError, ValueError, RequestError, AttributeError):
        folder = _folder()
        found = json.loads((folder / "core/package.json").read_text(encoding="utf-8")).get("version")
        whole = all((folder / name).is_file() for package in (CORE, UTILITIES) for name in package.files.values())
        return VERSION if whole and found == VERSION else None
    return None


def web_files() -> Path:
    """See `WebRuntime.web_files`."""
    if installed_version() is None:
        raise ToolchainError(f"LiteRT.js is not installed: {HINT}")
    return _folder()


def install_litertjs(on_progress: Callable[[str], None]) -> Path:
    """Bring LiteRT.js into the user's cache folder, unless it is there; return that folder.

    npm fetches it, with the user's own configuration. Nothing of it is run. Raises ToolchainError without npm, and when
    an archive cannot be had or is not the one that was tested.
    """
    target = _folder()
    if installed_version():
        on_progress(f"LiteRT.js {VERSION} is already in {target}")
        return target
    npm = which("npm")
    if npm is None:
        raise ToolchainError(f"npm is needed to fetch {CORE.name} and is not on PATH; install Node.js, then: {HINT}")
    with tempfile.TemporaryDirectory() as scratch, replacing(target) as fresh:
        on_progress(f"fetching {CORE.name} and {UTILITIES.name} {VERSION} with npm")
        _pack(npm, Path(scratch))
        for package in (CORE, UTILITIES):
            _unpack(package, Path(scratch) / package.archive, fresh)
        module = fresh / "core/index.js"
        code = module.read_bytes()
        if code.count(_BARE_IMPORT) != 1:
            raise ToolchainError(f"{CORE.name} {VERSION} does not import {UTILITIES.name} as it did when it was tested")
        module.write_bytes(code.replace(_BARE_IMPORT, _RELATIVE_IMPORT))
    on_progress(f"LiteRT.js {VERSION} in {target}")
    return target


def _pack(npm: str, folder: Path) -> None:
    names = [f"{package.name}@{VERSION}" for package in (CORE, UTILITIES)]
    with tempfile.TemporaryFile() as log:
        try:
            done = subprocess.run(
                [npm, "pack", "--ignore-scripts", "--loglevel=error", "--no-update-notifier", *names],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                timeout=TIMEOUT,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolchainError(f"npm cannot fetch {' and '.join(names)}: {error}") from error
        if done.returncode:
            raise ToolchainError(f"npm cannot fetch {' and '.join(names)}{stderr_tail(log)}")


def _unpack(package: Package, archive: Path, target: Path) -> None:
    """Write the files that a page needs, after a look at the archive's hash."""
    try:
        content = archive.read_bytes()
    except OSError as error:
        raise ToolchainError(f"npm fetched no {archive.name}: {error.strerror}") from error
    found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != package.integrity:
        raise ToolchainError(f"{package.name} {VERSION} is not the one that was tested: its integrity is {found}")
    with tarfile.open(archive) as members:
        for name, place in package.files.items():
            try:
                member = members.extractfile(f"package/{name}")
            except KeyError:
                member = None
            if member is None:
                raise ToolchainError(f"{package.name} {VERSION} has no file {name}")
            path = target / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.read())


def _folder() -> Path:
    return cache_folder() / REQUIREMENT
