"""Apple's own runtime, from the wheel coreai-core."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobilevit_converters.coreai.file.asset import MAIN, Asset, function_of, functions_of, read_asset
from mobilevit_converters.coreai.runtimes.session import Session
from mobilevit_converters.coreai.toolchain import runtime_availability
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, Size, answer_names, as_row, chosen_by_size

if TYPE_CHECKING:
    from mobilevit_sdk.formats.taps import TappedArtifact


class CoreAIRuntime:
    """Compiles the program and runs it on the CPU, with Apple's numerics; on Linux it evaluates, it does not race."""

    name = "coreai"
    format = "coreai"

    def availability(self) -> Availability:
        return runtime_availability()

    def load(self, path: Path) -> LoadedArtifact:
        asset = read_asset(path)  # anything but an asset is refused before native code sees it
        functions = functions_of(asset)
        choose = chosen_by_size(
            functions, lambda size: load_asset(asset, path.name, function=functions[size]), path.name
        )
        return lambda image: choose(image)(image)

    def tap(self, path: Path, image_size: Size = None) -> TappedArtifact:
        """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`."""
        from mobilevit_converters.coreai.runtimes.taps import tap_asset

        asset = read_asset(path)
        return tap_asset(asset, function_of(asset, image_size))


# Shapes of the image and of the answers, and the names of those where the asset does not say which they are.
Ends = tuple[list[int], list[list[int]], list[str] | None]


def load_asset(asset: Asset, file: str, ends: Ends | None = None, function: str = MAIN) -> LoadedArtifact:
    """An asset that answers images; `file` is what a refused image is told.

    `ends` is what a file around it says. Raises ArtifactError where it does not go between these, or from one image to
    answers.
    """
    session = Session(asset, file, function)
    answers = ends[2] if ends and ends[2] else answer_names(asset.spec, session.output_names, asset.path)
    if not set(answers) <= set(session.output_names):
        raise ArtifactError(f"{asset.path} has the outputs {', '.join(session.output_names)}, not {', '.join(answers)}")
    if ends is not None:
        image, wanted, _ = ends
        found = session.image_shape, [session.shape_of(name) for name in answers]
        if found != (image, wanted):
            raise ArtifactError(f"{asset.path} goes from {found[0]} to {found[1]}, and not from {image} to {wanted}")
    call = session.call(answers)
    return lambda image: as_row(call(image))
