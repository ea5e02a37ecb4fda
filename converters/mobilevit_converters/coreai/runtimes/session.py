"""An asset in Apple's runtime: compiled, with an image in and arrays out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np

from mobilevit_converters.coreai.file.asset import IMAGE, MAIN, Asset
from mobilevit_converters.coreai.runtimes.half_conversions import use_hardware_conversions
from mobilevit_converters.coreai.toolchain import import_coreai
from mobilevit_sdk.errors import ArtifactError, MobileViTError
from mobilevit_sdk.formats.runtime import require_image

T = TypeVar("T")
Call = Callable[[np.ndarray], list[np.ndarray]]  # uint8 [3, H, W] -> the outputs that were asked for, float32


class Session:
    """A loaded asset; `file` is what a refused image is told, `output_names` are those of its `function`.

    Raises ArtifactError for an asset that Core AI does not load, or that does not go from one image to an answer.
    """

    def __init__(self, asset: Asset, file: str, function: str = MAIN) -> None:
        self._asset, self._file, self._name = asset, file, function
        # In a thread of its own: the library's calls are coroutines, and a notebook's thread runs a loop already.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._function = self._load()
        self.output_names: list[str] = list(self._function.desc.output_names)
        self.image_shape = self._image_shape()  # [1, 3, H, W]

    def shape_of(self, output: str) -> list[int]:
        """The shape of an output."""
        return list(self._function.desc.output_descriptor(output).shape)

    def call(self, outputs: Sequence[str]) -> Call:
        """What computes these outputs."""

        def call(image: np.ndarray) -> list[np.ndarray]:
            require_image(image, self.image_shape[2], self.image_shape[3], self._file)
            # uint8 [3, H, W] -> float32 [1, 3, H, W] in [0, 1], row by row
            given = np.ascontiguousarray(image, dtype=np.float32)[None] / np.float32(255)
            return self._run(self._call(given, outputs))

        return call

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _call(self, image: np.ndarray, outputs: Sequence[str]) -> list[np.ndarray]:
        from coreai.runtime import NDArray

        found = await self._function({IMAGE: NDArray(image)})
        # Copies: an array is a view of memory that the next call may use.
        return [np.array(found[name].numpy(), dtype=np.float32) for name in outputs]

    def _load(self) -> Any:
        use_hardware_conversions()
        authoring = import_coreai("coreai.authoring")

        async def load() -> Any:
            # What is compiled lies in a temporary folder, which is read as a whole and gone when this returns.
            async with authoring.AIModelAsset.load(self._asset.path).executable() as model:
                return model.load_function(self._name)

        try:
            function = self._run(load())
        except MobileViTError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ArtifactError(f"Core AI cannot load {self._asset.path}: {reason}") from error
        if function is None:
            raise ArtifactError(f"{self._asset.path} has no function {self._name!r}")
        return function

    def _image_shape(self) -> list[int]:
        description = self._function.desc
        if description.input_names == [IMAGE]:
            given = description.input_descriptor(IMAGE)
            shape = list(given.shape)
            if given.dtype == "float32" and len(shape) == 4 and shape[:2] == [1, 3] and None not in shape:
                return shape
        raise ArtifactError(f"{self._asset.path} does not take one RGB image, {IMAGE!r}, float32 [1, 3, H, W]")
