"""A runtime's build for ARM64, which most phones have: whether the user's cache has it, and how it is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilevit_converters.emulation import arm64
from mobilevit_converters.emulation.arm64 import EmulatedMachine
from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.formats.runtime import Availability

OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class ARM64Build:
    """The ARM64 build of a runtime, of the version that is installed on this machine.

    For correctness only: no latency that an emulator shows is a phone's.
    """

    name: str  # of the runtime, such as "LiteRT"
    installed: Callable[[], Availability]  # on this machine, where it also reads files before native code does
    fetch: Callable[[str, Path, OnProgress], None]  # puts the build of a version into a folder, which it makes
    check: Callable[[EmulatedMachine, Path], Sequence[str]]  # a command that succeeds where the build in a folder works
    revision: str = ""  # of what this SDK adds to the build: another one takes another folder

    @property
    def title(self) -> str:
        """With the version, as in "LiteRT 2.3.0 for ARM64"."""
        return f"{self.name} {self.installed().version} for ARM64"

    @property
    def folder(self) -> Path:
        """Where the build is, or is to be. Raises RequestError for a user without a home."""
        return arm64.part("-".join(filter(None, (self.name.lower(), self.installed().version, self.revision))))

    def availability(self) -> Availability:
        """See `Runtime.availability`."""
        if not (here := self.installed()):
            return here
        try:
            machine, folder = arm64.emulated(), self.folder
        except (ToolchainError, RequestError) as error:
            return Availability(None, str(error))
        if machine.version and folder.is_dir():
            return Availability(f"{here.version} on {machine.version}")
        return Availability(None, f"{self.title} is not installed: {arm64.HINT}")

    def install(self, on_progress: OnProgress) -> Path:
        """See `InstallableRuntime.install`. Installs the emulated machine first, where that is missing."""
        here = self.installed()
        if not here.version:
            raise ToolchainError(here.reason)
        machine, folder = arm64.install(on_progress), self.folder
        if machine.runs(self.check(machine, folder)):
            on_progress(f"{self.title} is already in {folder}")
            return folder
        with replacing(folder) as fresh:
            on_progress(f"fetching {self.title}")
            self.fetch(here.version, fresh, on_progress)
            if not machine.runs(self.check(machine, fresh)):
                raise ToolchainError(f"{self.title} does not run on {machine.version}")
        on_progress(f"{self.title} in {folder}")
        return folder
