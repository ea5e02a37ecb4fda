"""The config.json that stands beside our own weights on the hub: it states their spec, as the weights' header does."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from mobilevit_sdk.checkpoints.beside.keys import read_json
from mobilevit_sdk.checkpoints.checkpoint import HEADER_KEY
from mobilevit_sdk.checkpoints.hub import CONFIG, WEIGHTS
from mobilevit_sdk.checkpoints.tensor_file import TensorFile
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import decode_json
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.text import one_line


def own_config(spec: ModelSpec) -> dict[str, Any]:
    """What config.json says of a network of ours."""
    return {"library_name": "mobilevit-sdk", HEADER_KEY: msgspec.to_builtins(spec)}


def with_own_config(file: TensorFile) -> TensorFile:
    """The file with the spec of the config.json beside it, where that is ours, as its header.

    Only weights under the hub's name are meant. Raises CheckpointError where header and config.json state two networks.
    """
    path = file.version.path
    config = read_json(path.parent / CONFIG, file.source) if path.name in WEIGHTS else None
    if config is None or HEADER_KEY not in config:
        return file
    try:
        stated = msgspec.convert(config.peek(HEADER_KEY), ModelSpec)
        header = file.metadata.get(HEADER_KEY)
        differs = header is not None and decode_json(header, ModelSpec) != stated
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{file.source}: {CONFIG} describes no network of ours: {one_line(str(error))}"
        ) from error
    if differs:
        raise CheckpointError(f"{file.source}: {CONFIG} and the header of the weights state two networks; remove one")
    return dataclasses.replace(file, metadata={**file.metadata, HEADER_KEY: msgspec.json.encode(stated).decode()})
