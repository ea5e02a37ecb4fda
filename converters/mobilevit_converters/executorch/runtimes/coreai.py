"""The runtime for .pte files whose graph is a Core AI delegate that runs anywhere: Apple's, on the program inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevit_converters.coreai.runtimes.coreai import Ends, load_asset
from mobilevit_converters.coreai.toolchain import runtime_availability
from mobilevit_converters.executorch.file.coreai_delegate import OUTPUT, read_coreai_delegate
from mobilevit_converters.executorch.file.program import COREAI, read_program, read_sole_delegate
from mobilevit_converters.executorch.toolchain import availability
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact

if TYPE_CHECKING:
    from mobilevit_converters.coreai.file.asset import Asset
    from mobilevit_sdk.formats.taps import TappedArtifact


class CoreAIProgramRuntime:
    """Runs the Core AI program inside the file, as the runtime of the same name does that of an .aimodel."""

    name = "coreai"
    format = "executorch"

    def availability(self) -> Availability:
        executorch, coreai = availability(), runtime_availability()  # ExecuTorch brings what reads the .pte
        return coreai if executorch else executorch

    def load(self, path: Path) -> LoadedArtifact:
        """See `Runtime.load`.

        The answer is the embedded program's, so a .pte that does anything else is refused: see `read_sole_delegate`.
        """
        with _asset(path) as (asset, ends):
            return load_asset(asset, path.name, ends)

    def tap(self, path: Path) -> TappedArtifact:
        """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`."""
        from mobilevit_converters.coreai.runtimes.taps import tap_asset

        with _asset(path) as (asset, _):
            return tap_asset(asset)


@contextmanager
def _asset(path: Path) -> Iterator[tuple[Asset, Ends]]:
    """The .aimodel inside, for as long as the context lasts, and what the .pte says that it goes between."""
    file = read_program(path)
    delegate, image, answers, order = read_sole_delegate(file, COREAI)
    names = [f"{OUTPUT}{i}" for i in order] if len(order) > 1 else None
    with read_coreai_delegate(file, file.delegate_data(delegate)).asset() as asset:
        yield asset, (image.sizes, [answer.sizes for answer in answers], names)
