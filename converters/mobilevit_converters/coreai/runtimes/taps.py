"""Every value that Apple's runtime computes on the way to an answer: the same program with more outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_converters.coreai.file.asset import IMAGE, Asset
from mobilevit_converters.coreai.file.program import graphs_of, kind_of
from mobilevit_converters.coreai.runtimes.coreai import EventLoop, image_size, image_tensor, loaded
from mobilevit_converters.coreai.toolchain import import_coreai
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import require_image
from mobilevit_sdk.formats.taps import Tap, TappedArtifact


def tap_asset(asset: Asset) -> TappedArtifact:
    """The asset with the floating-point results of all its operators; see `TappedRuntime.tap`.

    A composite operator, such as `layer_norm`, has one value. Raises ArtifactError.
    """
    loop = EventLoop()
    height, width = image_size(asset, loaded(asset, loop))
    program = import_coreai("coreai.authoring").AIModelAsset.load(asset.path).program
    graphs = graphs_of(program)
    main = graphs["main"]
    taps: list[Tap] = []
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as folder:
        try:
            with main.operation.context, main.operation.location:
                outputs = []
                for kind, value in _values(main, graphs):
                    name = f"value_{len(taps)}"
                    taps.append(Tap(kind, name, tuple(value.type.shape)))
                    outputs.append((name, value))
                main.outputs_spec = outputs
            path = Path(folder) / "tapped.aimodel"
            program.save_asset(path)
        except Exception as error:
            raise ArtifactError(f"Core AI cannot expose the values of {asset.path}: {error}") from error
        function = loaded(Asset(path, asset.metadata), loop)

    def values(image: np.ndarray) -> list[np.ndarray]:
        require_image(image, height, width, asset.path.name)
        return loop.run(_call(function, image, taps))

    return TappedArtifact(tuple(taps), values)


def _values(main: Any, graphs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Operator and value of every floating-point result that depends on the image, in the order of execution."""
    from coreai._compiler.ir import FloatType, RankedTensorType

    block = main.regions[0].blocks[0]
    computed = set(block.arguments)
    for operation in block.operations:
        if computed.isdisjoint(operation.operands):
            continue
        computed.update(operation.results)
        for value in operation.results:
            if isinstance(value.type, RankedTensorType) and isinstance(value.type.element_type, FloatType):
                yield kind_of(operation, graphs), value


async def _call(function: Any, image: np.ndarray, taps: list[Tap]) -> list[np.ndarray]:
    from coreai.runtime import NDArray

    outputs = await function({IMAGE: NDArray(image_tensor(image))})
    return [np.array(outputs[tap.name].numpy(), dtype=np.float32) for tap in taps]
