"""Inspection of an .aimodel asset."""

from __future__ import annotations

from pathlib import Path

from mobilevit_converters.coreai.file.asset import BACKEND_KEY, SPEC_KEY, functions_of, read_asset
from mobilevit_converters.coreai.file.program import read_program
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.converter import EntryInspection, Inspection
from mobilevit_sdk.formats.entries import inspection_of


def inspect(path: Path) -> Inspection:
    """Read an asset back: metadata, and the program in a child process. Raises ArtifactError for anything else.

    `delegates` is None: Core AI decides on the device which operators run on the Neural Engine.
    """
    asset = read_asset(path)
    metadata, functions = asset.metadata, functions_of(asset)
    programs = {name: read_program(asset, name) for name in functions.values()}
    for size, name in functions.items():
        if len(functions) > 1 and (not programs[name].inputs or programs[name].inputs[0].shape[2:] != size):
            raise ArtifactError(f"{path} is damaged: its function {name} does not take images of its size")
    shown = {name: getattr(metadata, name) for name in ("author", "description", "license", "producer")}
    others = {
        name: value for name, value in metadata.creator_defined_metadata.items() if name not in (SPEC_KEY, BACKEND_KEY)
    }
    entries = [
        EntryInspection(
            name=name,
            inputs=program.inputs,
            outputs=program.outputs,
            operators=program.operators,
            delegates=None,
            undelegated_ops=None,
        )
        for name, program in programs.items()
    ]
    return inspection_of(
        entries,
        max_rank=max(program.max_rank for program in programs.values()),
        spec=asset.spec,
        backend=asset.backend,
        oldest_system="iOS 27",
        metadata={name: value for name, value in shown.items() if value} | others,
    )
