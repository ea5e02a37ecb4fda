"""Which Vulkan driver LiteRT's GPU accelerator computes on: the machine's, or SwiftShader, which needs no GPU."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mobilevit_converters.emulation.debian import fetch_files
from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.files import cache_folder, replacing
from mobilevit_sdk.processes.child import run_in_child

LOADER = "libvulkan.so.1"
MANIFEST = "vk_swiftshader_icd.json"
SWIFTSHADER_FILES = (LOADER, MANIFEST, "libvk_swiftshader.so")
PACKAGE, INSIDE = "chromium-common", "usr/lib/chromium"  # the Debian package that carries them, and where

# What the Vulkan loader itself obeys, the newer name first: whoever sets one has chosen the driver.
CHOICES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
# Where drivers put their manifests. Mesa puts some on machines without a GPU: they only say that asking is worth it.
DRIVER_FOLDERS = tuple(Path(folder, "vulkan/icd.d") for folder in ("/etc", "/usr/share", "/usr/local/share"))
# Browsers bring SwiftShader along for pages that use WebGPU; some systems have no package of it, but one of these.
BROWSER_FOLDERS = (Path("/usr/lib/chromium"), Path("/opt/google/chrome"))

_INSTANCE_CREATE_INFO, _DEVICE_TYPE_CPU = 1, 4  # of vulkan_core.h


@dataclass(frozen=True)
class Driver:
    """A driver and the Vulkan loader that finds it: by `manifest`, or by the loader's own rules where that is None."""

    name: str
    loader: str
    manifest: Path | None = None

    @contextmanager
    def selected(self) -> Iterator[None]:
        """Within the block, what asks for Vulkan in this process gets this driver, unless it got another before."""
        try:
            ctypes.CDLL(self.loader)  # a later dlopen of libvulkan.so.1 finds this one
        except OSError as error:
            raise ToolchainError(f"the Vulkan loader {self.loader} does not load: {error}") from error
        if self.manifest is None:
            yield
            return
        before = os.environ.get(CHOICES[0])
        os.environ[CHOICES[0]] = str(self.manifest)
        try:
            yield
        finally:
            if before is None:
                del os.environ[CHOICES[0]]
            else:
                os.environ[CHOICES[0]] = before


class _InstanceCreateInfo(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.c_void_p),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


class _DeviceProperties(ctypes.Structure):
    _fields_ = (
        ("versions_and_ids", ctypes.c_uint32 * 4),
        ("type", ctypes.c_uint32),
        ("name", ctypes.c_char * 256),
        ("rest", ctypes.c_char * 1024),  # limits and properties: 548 bytes in Vulkan 1.0
    )


def find_driver() -> Driver | None:
    """The driver that was chosen in the environment, else that of the machine's GPU, else SwiftShader, else None.

    Drivers are untrusted native code: they are asked in a child process, and only where any are installed.
    """
    folder = find_swiftshader()
    loaders = (LOADER, *([str(folder / LOADER)] if folder else []))
    if chosen := next((name for name in CHOICES if os.environ.get(name)), None):
        return _ask(loaders, f"{chosen}={os.environ[chosen]}", any_device=True)
    has_drivers = any(True for icd in DRIVER_FOLDERS for _ in icd.glob("*.json"))
    if has_drivers and (driver := _ask(loaders, None, any_device=False)):
        return driver
    return Driver("SwiftShader", loaders[-1], folder / MANIFEST) if folder else None


def find_swiftshader() -> Path | None:
    """The folder of the user's cache that holds SwiftShader and a Vulkan loader."""
    with suppress(RequestError):  # a user without a home has no cache
        if _is_whole(folder := swiftshader_cache()):
            return folder
    return None


def swiftshader_cache() -> Path:
    return cache_folder() / "swiftshader"


def install_swiftshader(on_progress: Callable[[str], None]) -> Path:
    """Bring SwiftShader into the user's cache folder, if none that works is there; return that folder.

    It comes from an installed browser, or else from Debian's package. Raises ToolchainError when it cannot be had or
    does not answer.
    """
    target = swiftshader_cache()
    if _is_whole(target) and _devices_of(target):
        on_progress(f"SwiftShader is already in {target}")
        return target
    with replacing(target) as fresh:
        fresh.mkdir()
        browser = next(filter(_is_whole, BROWSER_FOLDERS), None)
        if browser:
            on_progress(f"taking it from {browser}")
            for name in SWIFTSHADER_FILES:
                shutil.copyfile(browser / name, fresh / name)
        else:
            fetch_files(PACKAGE, [f"{INSIDE}/{name}" for name in SWIFTSHADER_FILES], fresh, on_progress)
        on_progress("asking the driver for its devices")
        devices = _devices_of(fresh)
        if not devices:
            raise ToolchainError(f"the SwiftShader of {browser or PACKAGE} does not work here: it has no device")
    on_progress(f"{devices[0]} in {target}")
    return target


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in SWIFTSHADER_FILES)


def _devices_of(folder: Path) -> list[str]:
    try:
        return run_in_child(_list_devices, str(folder / LOADER), folder / MANIFEST, True)
    except ToolchainError:
        return []


@cache
def _ask(loaders: tuple[str, ...], choice: str | None, any_device: bool) -> Driver | None:
    """The first device that a loader finds by its own rules. `choice` is what these rules depend on."""
    for loader in loaders:
        try:
            if names := run_in_child(_list_devices, loader, None, any_device):
                return Driver(names[0], loader)
        except ToolchainError:  # no such loader, or a driver that crashes
            continue
    return None


def _list_devices(loader: str, manifest: Path | None, any_device: bool) -> list[str]:
    """In a child process: the names of Vulkan's devices, by default without those that compute on the CPU."""
    with Driver("", loader, manifest).selected():
        vulkan = ctypes.CDLL(loader)
        instance, count = ctypes.c_void_p(), ctypes.c_uint32()
        if vulkan.vkCreateInstance(
            ctypes.byref(_InstanceCreateInfo(type=_INSTANCE_CREATE_INFO)), None, ctypes.byref(instance)
        ):
            return []  # no driver, or none that fits
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        devices = (ctypes.c_void_p * count.value)()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
        found = []
        for device in devices:
            properties = _DeviceProperties()
            vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), ctypes.byref(properties))
            found.append(properties)
    return [p.name.decode(errors="replace") for p in found if any_device or p.type != _DEVICE_TYPE_CPU]
