"""Apple's own runtime, from the wheel coreai-core."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mobilevit_converters.coreai.file.asset import IMAGE, MAIN, Asset, answer_name, read_asset
from mobilevit_converters.coreai.toolchain import import_coreai, runtime_availability
from mobilevit_sdk.errors import ArtifactError, MobileViTError
from mobilevit_sdk.formats.runtime import Availability, LoadedArtifact, require_image

if TYPE_CHECKING:
    from mobilevit_sdk.formats.taps import TappedArtifact

T = TypeVar("T")


class CoreAIRuntime:
    """Compiles the program and runs it on the CPU, with Apple's numerics; on Linux it evaluates, it does not race."""

    name = "coreai"
    format = "coreai"

    def availability(self) -> Availability:
        return runtime_availability()

    def load(self, path: Path) -> LoadedArtifact:
        asset = read_asset(path)  # anything but an asset is refused before native code sees it
        loop = EventLoop()
        function = loaded(asset, loop)
        answer = answer_name(function.desc.output_names)
        height, width = image_size(asset, function)
        assert answer is not None

        def predict(image: np.ndarray) -> np.ndarray:
            require_image(image, height, width, path.name)
            scores: np.ndarray = loop.run(_call(function, image, answer))
            return scores

        return predict

    def tap(self, path: Path) -> TappedArtifact:
        """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`."""
        from mobilevit_converters.coreai.runtimes.taps import tap_asset

        return tap_asset(read_asset(path))


class EventLoop:
    """An event loop in a thread of its own: the library's calls are coroutines, and a notebook's thread has a loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, once it is there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def loaded(asset: Asset, loop: EventLoop) -> Any:
    """The asset's function, compiled (coreai.runtime.InferenceFunction). Raises ArtifactError."""
    authoring = import_coreai("coreai.authoring")

    async def load() -> Any:
        # What is compiled lies in a temporary folder, which is read as a whole and gone when this returns.
        async with authoring.AIModelAsset.load(asset.path).executable() as model:
            return model.load_function(MAIN)

    try:
        function = loop.run(load())
    except MobileViTError:
        raise
    except Exception as error:
        raise ArtifactError(f"Core AI cannot load {asset.path}: {' '.join(str(error).split())[:300]}") from error
    if function is None:
        raise ArtifactError(f"{asset.path} has no function {MAIN!r}")
    return function


def image_size(asset: Asset, function: Any) -> tuple[int, int]:
    """Height and width of the image that `function` takes.

    Raises ArtifactError where it does not go from one image to logits or features.
    """
    description = function.desc
    if description.input_names == [IMAGE] and answer_name(description.output_names):
        given = description.input_descriptor(IMAGE)
        shape = list(given.shape)
        if given.dtype == "float32" and len(shape) == 4 and shape[:2] == [1, 3] and None not in shape:
            return shape[2], shape[3]
    raise ArtifactError(f"{asset.path} does not go from one RGB image, float32 [1, 3, H, W], to logits or features")


def image_tensor(image: np.ndarray) -> np.ndarray:
    """What a function takes: uint8 [3, H, W] -> float32 [1, 3, H, W] in [0, 1]."""
    return np.ascontiguousarray(image, dtype=np.float32)[None] / np.float32(255)


async def _call(function: Any, image: np.ndarray, answer: str) -> np.ndarray:
    from coreai.runtime import NDArray

    outputs = await function({IMAGE: NDArray(image_tensor(image))})
    # A copy: the array is a view of memory that the next call may use. Features keep no shape, as in every runtime.
    return np.array(outputs[answer].numpy(), dtype=np.float32).reshape(-1)
