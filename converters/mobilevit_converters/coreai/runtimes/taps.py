"""Every value that Apple's runtime computes on the way to an answer: the same program with more outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobilevit_converters.coreai.file.asset import MAIN, Asset
from mobilevit_converters.coreai.file.program import graphs_of, kind_of
from mobilevit_converters.coreai.runtimes.session import Session
from mobilevit_converters.coreai.toolchain import import_coreai
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.taps import Tap, TappedArtifact


def tap_asset(asset: Asset, function: str = MAIN) -> TappedArtifact:
    """The asset with the floating-point results of all its operators; see `TappedRuntime.tap`.

    A composite operator, such as `layer_norm`, has one value. Raises ArtifactError.
    """
    authoring = import_coreai("coreai.authoring")
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as folder:
        path = Path(folder) / "tapped.aimodel"
        try:
            program = authoring.AIModelAsset.load(asset.path).program
            taps = _expose_values(program, function)
            program.save_asset(path)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ArtifactError(f"Core AI cannot expose the values of {asset.path}: {reason}") from error
        session = Session(replace(asset, path=path), asset.path.name, function)
    return TappedArtifact(taps, session.call([tap.name for tap in taps]))


def _expose_values(program: Any, function: str) -> tuple[Tap, ...]:
    """Make every value of a function an output, in place of its own."""
    graphs = graphs_of(program)
    main = graphs[function]
    taps: list[Tap] = []
    outputs: list[tuple[str, Any]] = []
    with main.operation.context, main.operation.location:
        for kind, value in _values(main, graphs):
            name = f"value_{len(taps)}"
            taps.append(Tap(kind, name, tuple(value.type.shape)))
            outputs.append((name, value))
        main.outputs_spec = outputs
    return tuple(taps)


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
