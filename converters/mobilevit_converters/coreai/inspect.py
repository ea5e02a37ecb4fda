"""Inspection of an .aimodel asset."""

from __future__ import annotations

from pathlib import Path

from mobilevit_converters.coreai.file.asset import BACKEND_KEY, SPEC_KEY, read_asset
from mobilevit_converters.coreai.file.program import read_program
from mobilevit_sdk.formats.converter import Inspection


def inspect(path: Path) -> Inspection:
    """Read an asset back: metadata, and the program in a child process. Raises ArtifactError for anything else.

    `delegates` is None: Core AI decides on the device which operators run on the Neural Engine.
    """
    asset = read_asset(path)
    program, metadata = read_program(asset), asset.metadata
    shown = {name: getattr(metadata, name) for name in ("author", "description", "license", "producer")}
    others = {
        name: value for name, value in metadata.creator_defined_metadata.items() if name not in (SPEC_KEY, BACKEND_KEY)
    }
    return Inspection(
        inputs=program.inputs,
        outputs=program.outputs,
        operators=program.operators,
        max_rank=program.max_rank,
        delegates=None,
        undelegated_ops=None,
        spec=asset.spec,
        backend=asset.backend,
        oldest_system="iOS 27",
        metadata={name: value for name, value in shown.items() if value} | others,
    )
