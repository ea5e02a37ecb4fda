"""Apple's own runtime, from the wheel coreai-core."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilevit_converters.coreai.file.asset import FEATURES, LOGITS, Asset, read_asset
from mobilevit_converters.coreai.runtimes.session import Session
from mobilevit_converters.coreai.toolchain import runtime_availability
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact

if TYPE_CHECKING:
    from mobilevit_sdk.formats.taps import TappedArtifact


class CoreAIRuntime:
    """Compiles the program and runs it on the CPU, with Apple's numerics; on Linux it evaluates, it does not race."""

    name = "coreai"
    format = "coreai"

    def availability(self) -> Availability:
        return runtime_availability()

    def load(self, path: Path) -> LoadedArtifact:
        return load_asset(read_asset(path), path.name)  # anything but an asset is refused before native code sees it

    def tap(self, path: Path) -> TappedArtifact:
        """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`."""
        from mobilevit_converters.coreai.runtimes.taps import tap_asset

        return tap_asset(read_asset(path))


def load_asset(asset: Asset, file: str, shapes: tuple[list[int], list[int]] | None = None) -> LoadedArtifact:
    """An asset that answers images; `file` is what a refused image is told.

    Raises ArtifactError where it does not go from one image to an answer, of these `shapes` where they are given.
    """
    session = Session(asset, file)
    answer = session.answer
    if answer is None:
        raise ArtifactError(f"{asset.path} returns neither {LOGITS} nor {FEATURES}")
    found = session.image_shape, session.shape_of(answer)
    if shapes is not None and found != shapes:
        raise ArtifactError(f"{asset.path} goes from {found[0]} to {found[1]}, and not from {shapes[0]} to {shapes[1]}")
    call = session.call([answer])

    def predict(image: np.ndarray) -> np.ndarray:
        (scores,) = call(image)
        return scores.reshape(-1)

    return predict
