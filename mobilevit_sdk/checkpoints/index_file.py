"""The index of weights that are spread over several files, as transformers and the hub write it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import decode_json, is_file, is_file_name
from mobilevit_sdk.text import count, one_line, shorten

_MAX_BYTES = 100_000_000


class _Index(msgspec.Struct):
    weight_map: dict[str, str]  # name of a tensor -> name of the file that holds it


def read_shards(path: Path, source: str) -> dict[str, list[str]] | None:
    """For each file that an index joins, the tensors in it; None where `path` is no index.

    Raises CheckpointError for an index of no files, or of files that are not in its own folder.
    """
    try:
        with path.open("rb") as file:
            if not file.read(64).lstrip().startswith(b"{") or path.stat().st_size > _MAX_BYTES:
                return None
        index = decode_json(path.read_bytes(), _Index)
    except (OSError, ValueError):
        return None
    shards: dict[str, list[str]] = {}
    for tensor, name in index.weight_map.items():
        shards.setdefault(name, []).append(tensor)
    if outside := [name for name in shards if not is_file_name(name)]:
        raise CheckpointError(f"{source} names files outside of its folder: {one_line(shorten(outside))}")
    if not shards:
        raise CheckpointError(f"{source} is an index that names no files")
    return shards


def check_shards(folder: Path, shards: Collection[str], source: str) -> None:
    """Raise CheckpointError where a file that an index joins is not beside it."""
    missing = [name for name in shards if not is_file(folder / name)]
    if missing:
        raise CheckpointError(
            f"{source} joins {count(shards, 'file')}, of which {len(missing)} are not beside it: {shorten(missing)}"
        )
