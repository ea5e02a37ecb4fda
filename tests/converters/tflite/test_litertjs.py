"""How LiteRT.js comes into the cache: through npm, checked, whole or not at all."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from mobilevit_converters.tflite import converter
from mobilevit_converters.tflite.runtimes import litertjs
from mobilevit_converters.tflite.runtimes.litertjs import CORE, UTILITIES, VERSION, install_litertjs, installed_version

from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.inventory import web_files
from mobilevit_sdk.formats.runtime import InstallableRuntime, OnRequestRuntime, WebRuntime

MODULE = b'import { createWasmLib } from "@litertjs/wasm-utils";\nexport const Tensor = 1;\n'


class Registry:
    """A folder of archives, and an npm on PATH that gives copies of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.bin, self.monkeypatch = folder / "registry", folder / "bin", monkeypatch
        self.folder.mkdir()
        self.bin.mkdir()
        monkeypatch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        self.npm(f'echo "$@" > {folder}/asked; cp {self.folder}/*.tgz .')
        self.publish("CORE", CORE, {"dist/index.js": MODULE, "package.json": json.dumps({"version": VERSION}).encode()})
        self.publish("UTILITIES", UTILITIES, {})

    def npm(self, script: str) -> None:
        (self.bin / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / "npm").chmod(0o755)

    def publish(self, constant: str, package: litertjs.Package, files: dict[str, bytes], without: str = "") -> None:
        """Put an archive there whose hash counts as the tested one."""
        with tarfile.open(self.folder / package.archive, "w:gz") as archive:
            for name in package.files:
                content = files.get(name, b"// " + name.encode())
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(content)
                if name != without:
                    archive.addfile(member, io.BytesIO(content))
        digest = hashlib.sha512((self.folder / package.archive).read_bytes()).digest()
        integrity = f"sha512-{base64.b64encode(digest).decode()}"
        self.monkeypatch.setattr(litertjs, constant, dataclasses.replace(package, integrity=integrity))


@pytest.fixture
def registry(tmp_path, monkeypatch) -> Registry:
    return Registry(tmp_path, monkeypatch)


def test_both_packages_become_one_folder_whose_module_imports_the_other_by_its_path(registry, tmp_path):
    folder = install_litertjs(lambda line: None)
    assert (folder / "core/index.js").read_bytes() == MODULE.replace(b"@litertjs/wasm-utils", b"./wasm-utils.js")
    assert (folder / "core/wasm-utils.js").read_bytes() == b"// dist/index.js"
    assert (folder / "wasm/litert_wasm_internal.wasm").read_bytes() == b"// wasm/litert_wasm_internal.wasm"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.*")} == {
        place for package in (CORE, UTILITIES) for place in package.files.values()
    }
    asked = (tmp_path / "asked").read_text().split()
    assert asked[0] == "pack"
    assert {"--ignore-scripts", f"@litertjs/core@{VERSION}", f"@litertjs/wasm-utils@{VERSION}"} <= set(asked)


def test_what_is_there_is_not_fetched_again(registry):
    install_litertjs(lambda line: None)
    registry.npm("exit 1")
    said: list[str] = []
    folder = install_litertjs(said.append)
    assert said == [f"LiteRT.js {VERSION} is already in {folder}"]


def test_the_sdk_finds_it_without_knowing_who_brought_it(registry):
    with pytest.raises(ToolchainError, match="not installed: mobilevit doctor --install litert-web"):
        web_files()
    install_litertjs(lambda line: None)
    assert (web_files() / "core/index.js").is_file()


@pytest.mark.parametrize("lost", ["core/package.json", "core/wasm-utils.js", "wasm/litert_wasm_internal.wasm"])
def test_a_folder_that_lost_a_file_counts_as_missing_and_is_installed_anew(lost, registry):
    folder = install_litertjs(lambda line: None)
    (folder / lost).unlink()
    assert installed_version() is None
    assert (install_litertjs(lambda line: None) / lost).is_file()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"version": "2.0.0"}', b"\xff"])
def test_another_version_or_a_damaged_description_counts_as_missing(content, registry):
    (install_litertjs(lambda line: None) / "core/package.json").write_bytes(content)
    assert installed_version() is None


def test_an_archive_that_is_not_the_tested_one_is_refused_and_nothing_stays(registry, tmp_path):
    archive = registry.folder / CORE.archive
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(ToolchainError, match=r"@litertjs/core 2\.5\.3 is not the one that was tested"):
        install_litertjs(lambda line: None)
    assert list((tmp_path / "cache/mobilevit-sdk").iterdir()) == []


def test_a_module_that_imports_otherwise_is_refused(registry):
    registry.publish("CORE", CORE, {"dist/index.js": b"export {};"})
    with pytest.raises(ToolchainError, match="does not import @litertjs/wasm-utils as it did"):
        install_litertjs(lambda line: None)


def test_an_archive_without_a_file_is_refused(registry):
    registry.publish("UTILITIES", UTILITIES, {}, without="dist/index.js")
    with pytest.raises(ToolchainError, match=r"@litertjs/wasm-utils 2\.5\.3 has no file dist/index\.js"):
        install_litertjs(lambda line: None)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'npm error 404 Not Found' >&2; exit 1", "npm cannot fetch .*: npm error 404 Not Found"),
        ("exit 0", r"npm fetched no litertjs-core-2\.5\.3\.tgz"),
    ],
    ids=["not found", "nothing"],
)
def test_an_npm_that_fails_is_told(script, told, registry):
    registry.npm(script)
    with pytest.raises(ToolchainError, match=told):
        install_litertjs(lambda line: None)


def test_without_npm_it_says_so(registry, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(main, ["doctor", "--install", "litert-web", "--json"])
    assert result.exit_code == 3
    assert "npm is needed to fetch @litertjs/core and is not on PATH" in json.loads(result.stdout)["error"]


def test_both_runtimes_run_on_request_and_share_what_is_installed():
    found = {each.name: each for each in converter.runtimes if isinstance(each, WebRuntime)}
    assert set(found) == {"litert-web", "litert-webgpu"}
    for runtime in found.values():
        assert isinstance(runtime, OnRequestRuntime)
        assert isinstance(runtime, InstallableRuntime)
        assert runtime.requirement == "litert-web"
