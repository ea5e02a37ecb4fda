"""Images from many Parquet files, here or in a store, that need not fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_sdk.data.dataset import ImageDataset
from mobilevit_sdk.data.parquet import FACTS, check_rows, check_schema, described
from mobilevit_sdk.data.storage import BlockCache, RowNames, Storage
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import Address
from mobilevit_sdk.text import one_line, shorten


@dataclass(frozen=True)
class _Groups:
    """Reads rows of Parquet files by their row groups, each of which is one block."""

    system: Any  # the fsspec file system
    files: tuple[str, ...]
    first_group: np.ndarray  # the block of each file's first row group, int64 [files]
    starts: np.ndarray  # the first row of each block, int64 [blocks]
    block_bytes: np.ndarray
    rows: np.ndarray  # int64 [images]

    def __getstate__(self) -> dict[str, object]:  # what is cached stays here
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def blocks(self) -> BlockCache:
        return BlockCache(self._read_block, self.block_bytes)

    def __call__(self, index: int) -> bytes:
        row = int(self.rows[index])
        block = int(np.searchsorted(self.starts, row, side="right")) - 1
        encoded = self.blocks(block)[row - int(self.starts[block])].as_py()
        if encoded is None:
            raise ValueError("it holds no image bytes")
        return encoded

    def at(self, rows: Sequence[int]) -> _Groups:
        chosen = replace(self, rows=self.rows[np.asarray(rows, np.int64)])
        chosen.__dict__["blocks"] = self.blocks
        return chosen

    def _read_block(self, block: int) -> Any:
        """The encoded images of a row group: a pyarrow array of bytes."""
        import pyarrow.compute
        import pyarrow.parquet

        file = int(np.searchsorted(self.first_group, block, side="right")) - 1
        try:
            with self.system.open(self.files[file], "rb") as opened:
                group = block - int(self.first_group[file])
                table = pyarrow.parquet.ParquetFile(opened).read_row_group(group, columns=["image.bytes"])
        except Exception as error:  # a store's errors are of many kinds
            raise RequestError(f"{self.files[file]} cannot be read ({one_line(str(error))})") from error
        return pyarrow.compute.struct_field(table.column("image"), "bytes").combine_chunks()


def open_parquet_files(source: Path | Address, system: Any, files: Sequence[str], labeled: bool) -> ImageDataset:
    """Rows of these files of an fsspec file system, in the order of their names, in the layout of `open_parquet`.

    Labels are read now; images are when they are asked for, a row group at a time. Raises RequestError for a file that
    cannot be read or has another layout, and for files that name other classes than the first.
    """
    import pyarrow
    import pyarrow.parquet

    tables, counts, sizes, groups = [], [], [], [0]
    for path in files:
        try:
            with system.open(path, "rb") as opened:
                file = pyarrow.parquet.ParquetFile(opened)
                schema, metadata = file.schema_arrow, file.metadata
                check_schema(Address(path), schema, labeled)
                check_rows(metadata, system.size(path))
                tables.append(file.read(columns=[name for name in FACTS if name in schema.names]))
        except (pyarrow.ArrowException, OSError) as error:
            raise RequestError(f"{path} is no Parquet file, or a damaged one ({one_line(str(error))})") from error
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            counts.append(group.num_rows)
            columns = map(group.column, range(group.num_columns))
            sizes.append(sum(each.total_uncompressed_size for each in columns if each.path_in_schema == "image.bytes"))
        groups.append(groups[-1] + metadata.num_row_groups)
    for path, table in zip(files, tables, strict=True):
        if not table.schema.equals(tables[0].schema, check_metadata=False) or (
            (table.schema.metadata or {}).get(b"huggingface") != (tables[0].schema.metadata or {}).get(b"huggingface")
        ):
            raise RequestError(f"{path} describes its images otherwise than {files[0]}: classes or columns differ")
    starts = np.cumsum([0, *counts])[:-1].astype(np.int64)
    block_bytes, rows = np.asarray(sizes, np.int64), np.arange(sum(counts), dtype=np.int64)
    reader = _Groups(system, tuple(files), np.asarray(groups[:-1], np.int64), starts, block_bytes, rows)
    first_rows = np.cumsum([0, *(len(table) for table in tables)])[:-1].astype(np.int64)
    names = RowNames(tuple(path.rpartition("/")[2] for path in files), first_rows, rows)
    storage = Storage(np.repeat(np.arange(len(counts)), counts), block_bytes)
    images = ImageDataset(source, names, reader, None, None, storage=storage, is_checked=True)
    return described(images, pyarrow.concat_tables(tables), labeled)


def open_address(source: Address, labeled: bool) -> ImageDataset:
    """The Parquet files or WebDataset tars at a URL or pattern, as fsspec knows them. Raises RequestError."""
    import fsspec

    from mobilevit_sdk.data.tars import open_tars

    try:
        system, _, found = fsspec.get_fs_token_paths(str(source))
        files = sorted(path for path in found if not system.isdir(path))
    except ImportError as error:  # a store whose package is not installed
        raise RequestError(f"{source} needs a package that is not here: {one_line(str(error))}") from error
    except Exception as error:
        raise RequestError(f"{source} cannot be listed ({one_line(str(error))})") from error
    if not files:
        raise RequestError(f"{source} matches no file")
    kinds = {_suffix(path) for path in files}
    if kinds == {"parquet"}:
        return open_parquet_files(source, system, files, labeled)
    if kinds == {"tar"}:
        return open_tars(source, system, files, labeled)
    others = [path.rpartition("/")[2] for path in files if _suffix(path) not in ("parquet", "tar")] or files
    raise RequestError(f"{source} must match .parquet files or WebDataset's .tar files, and matches {shorten(others)}")


def _suffix(path: str) -> str:
    return path.rpartition(".")[2].lower()
