"""Which Vulkan driver there is to compute on, and how SwiftShader comes into the cache."""

from __future__ import annotations

import importlib.metadata
import json
import pwd
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from debian_packages import needs_dpkg, write_deb
from mobilevit_converters.emulation import debian
from mobilevit_converters.tflite.runtimes import vulkan
from mobilevit_converters.tflite.runtimes.gpu import LiteRTGPURuntime
from mobilevit_converters.tflite.runtimes.vulkan import SWIFTSHADER_FILES, Driver, find_driver

from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.processes.child import run_in_child

runtime = LiteRTGPURuntime()
SWIFTSHADER = vulkan.find_swiftshader()
needs_swiftshader = pytest.mark.skipif(
    SWIFTSHADER is None, reason="SwiftShader is not here: mobilevit doctor --install swiftshader"
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without drivers: folders for them, and what their devices would answer."""

    class Machine:
        drivers, cache = tmp_path / "icd.d", tmp_path / "mobilevit-sdk" / "swiftshader"

        def __init__(self):
            self.devices, self.asked = (), []

        def put_driver(self):
            self.drivers.mkdir()
            (self.drivers / "some_icd.json").touch()

        def put_swiftshader(self, names=SWIFTSHADER_FILES):
            self.cache.mkdir(parents=True)
            for name in names:
                (self.cache / name).touch()

    def ask(function, loader, manifest, any_device):
        found.asked.append((loader, any_device))
        if isinstance(found.devices, Exception):
            raise found.devices
        return list(found.devices)

    found = Machine()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in vulkan.CHOICES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(vulkan, "DRIVER_FOLDERS", (tmp_path / "missing", found.drivers))
    monkeypatch.setattr(vulkan, "run_in_child", ask)
    vulkan._ask.cache_clear()
    yield found
    vulkan._ask.cache_clear()


def swiftshader_in(folder: Path) -> Driver:
    return Driver("SwiftShader", str(folder / "libvulkan.so.1"), folder / "vk_swiftshader_icd.json")


def test_without_any_driver_the_reason_names_the_command_that_fetches_one(machine):
    assert find_driver() is None
    assert not runtime.availability()
    assert "mobilevit doctor --install swiftshader" in runtime.availability().reason
    assert machine.asked == []  # cheap: no driver, nobody to ask


def test_swiftshader_is_taken_from_the_cache_where_it_is_whole(machine):
    machine.put_swiftshader(SWIFTSHADER_FILES[:2])
    assert find_driver() is None
    shutil.rmtree(machine.cache)
    machine.put_swiftshader()
    assert find_driver() == swiftshader_in(machine.cache)
    assert runtime.availability().version == importlib.metadata.version("ai-edge-litert") + " on SwiftShader"
    assert machine.asked == []


def test_a_gpu_of_the_machine_is_preferred(machine):
    machine.put_swiftshader()
    machine.put_driver()
    machine.devices = ["Some GPU"]
    assert find_driver() == Driver("Some GPU", "libvulkan.so.1")
    assert machine.asked == [("libvulkan.so.1", False)]
    assert runtime.availability().version.endswith(" on Some GPU")


@pytest.mark.parametrize("devices", [(), ToolchainError("the process died of SIGSEGV")], ids=["no GPU", "crash"])
def test_drivers_without_a_gpu_leave_swiftshader(devices, machine):
    machine.put_driver()
    machine.devices = devices
    assert find_driver() is None
    machine.put_swiftshader()
    assert find_driver() == swiftshader_in(machine.cache)


@pytest.mark.parametrize("variable", vulkan.CHOICES)
def test_a_driver_chosen_in_the_environment_is_asked_whatever_it_computes_on(variable, machine, monkeypatch):
    machine.put_swiftshader()
    monkeypatch.setenv(variable, "/some/icd.json")
    assert find_driver() is None
    assert f"{variable} names no Vulkan driver that works" in runtime.availability().reason
    vulkan._ask.cache_clear()
    machine.devices = ["llvmpipe"]
    assert find_driver() == Driver("llvmpipe", "libvulkan.so.1")
    assert machine.asked[-1] == ("libvulkan.so.1", True)


def no_home(uid: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


def test_a_user_without_a_home_has_no_cache_and_no_error(machine, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_home)
    assert not runtime.availability()
    with pytest.raises(RequestError, match="set XDG_CACHE_HOME"):
        runtime.install(print)


@needs_swiftshader
def test_vulkan_is_asked_for_real():
    found = [
        run_in_child(vulkan._list_devices, str(SWIFTSHADER / vulkan.LOADER), manifest, any_device)
        for manifest, any_device in (
            (SWIFTSHADER / vulkan.MANIFEST, True),
            (SWIFTSHADER / vulkan.MANIFEST, False),  # it computes on the CPU
            (Path("/nowhere.json"), True),
        )
    ]
    assert [len(names) for names in found] == [1, 0, 0]
    assert "SwiftShader" in found[0][0]


def package_of(path: Path, content: dict[str, bytes]) -> Path:
    return write_deb(path, {f"./{vulkan.INSIDE}/{name}": data for name, data in content.items()})


def install(*options: str):
    return CliRunner().invoke(main, ["doctor", "--install", *options])


@needs_dpkg
@needs_swiftshader
def test_doctor_fetches_swiftshader_into_the_cache_once(tmp_path, monkeypatch):
    files = {name: (SWIFTSHADER / name).read_bytes() for name in SWIFTSHADER_FILES}
    fetched = []

    def download(package, scratch, on_progress):
        fetched.append(package)
        return package_of(scratch / "p.deb", files)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vulkan, "BROWSER_FOLDERS", ())
    monkeypatch.setattr(debian, "download", download)
    for _ in range(2):
        result = install("swiftshader", "--json")
        assert result.exit_code == 0, result.stderr
        document = json.loads(result.stdout)
        assert (document["installed"], document["runtimes"][0]["name"]) == ("swiftshader", "litert-gpu")
        assert {path.name: path.read_bytes() for path in Path(document["runtimes"][0]["path"]).iterdir()} == files
    assert fetched == ["chromium-common"]
    driver = Path(document["runtimes"][0]["path"]) / "libvk_swiftshader.so"
    driver.write_bytes(b"broken")
    assert install("swiftshader").exit_code == 0
    assert fetched == ["chromium-common"] * 2
    assert driver.read_bytes() == files["libvk_swiftshader.so"]


@needs_swiftshader
def test_doctor_takes_swiftshader_from_an_installed_browser(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vulkan, "BROWSER_FOLDERS", (tmp_path / "missing", SWIFTSHADER))
    monkeypatch.setattr(debian, "download", None)
    result = install("swiftshader")
    assert result.exit_code == 0, result.stderr
    assert f"taking it from {SWIFTSHADER}" in result.stderr.replace("\n", "")
    copied = tmp_path / "mobilevit-sdk" / "swiftshader"
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == {
        name: (SWIFTSHADER / name).read_bytes() for name in SWIFTSHADER_FILES
    }


@needs_dpkg
@pytest.mark.parametrize("content", [b"\x7fELF and no more", None], ids=["no library", "no package"])
def test_a_package_without_a_driver_that_works_changes_nothing(content, tmp_path, monkeypatch):
    def download(package, scratch, on_progress):
        if content:
            return package_of(scratch / "p.deb", dict.fromkeys(SWIFTSHADER_FILES, content))
        (scratch / "p.deb").write_bytes(b"<html>")
        return scratch / "p.deb"

    old = tmp_path / "mobilevit-sdk" / "swiftshader" / "old"
    old.parent.mkdir(parents=True)
    old.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vulkan, "BROWSER_FOLDERS", ())
    monkeypatch.setattr(debian, "download", download)
    result = install("swiftshader")
    assert result.exit_code == 3
    assert ("has no device" if content else "not a complete Debian package") in result.stderr
    assert list((tmp_path / "mobilevit-sdk").rglob("*")) == [old.parent, old]


def test_an_unknown_name_gets_the_nearest():
    result = install("swiftshadow", "--json")
    assert result.exit_code == 2
    assert "did you mean swiftshader?" in json.loads(result.stdout)["error"]
