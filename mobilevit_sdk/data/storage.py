"""Where the images of a large dataset lie: in blocks, each read at once, of which a few are in memory at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

MEMORY_BYTES = 128 << 20  # of encoded blocks that are in memory at once
MAX_LANES = 8


@dataclass(frozen=True)
class Storage:
    """Which block each image is read with, int64 [images], and how many encoded bytes each block has, [blocks]."""

    blocks: np.ndarray
    block_bytes: np.ndarray

    def at(self, rows: Sequence[int]) -> Storage:
        """That of these images only."""
        return Storage(self.blocks[np.asarray(rows, np.int64)], self.block_bytes)

    @property
    def lanes(self) -> int:
        """How many blocks are read side by side in a shuffled order: a power of two, 8 or as many as memory holds."""
        room = MEMORY_BYTES // max(1, 2 * int(self.block_bytes.max()))
        return 1 << max(0, min(MAX_LANES, room).bit_length() - 1)


@dataclass(frozen=True)
class RowNames(Sequence[str]):
    """Names of rows as people count them, made when asked for: those of millions would fill the memory."""

    files: tuple[str, ...]
    starts: np.ndarray  # of each file's rows among all, int64 [files]
    rows: np.ndarray  # int64 [names]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.at(range(len(self))[index])
        row = int(self.rows[index])
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.files[file]} row {row - int(self.starts[file])}"

    def at(self, rows: Sequence[int]) -> RowNames:
        """The names of these only."""
        return RowNames(self.files, self.starts, self.rows[np.asarray(rows, np.int64)])


class BlockCache:
    """The blocks read last, up to `MEMORY_BYTES` and at least one; threads that want the same one read it once."""

    def __init__(self, read: Callable[[int], Any], block_bytes: np.ndarray) -> None:
        self.read, self.block_bytes = read, block_bytes
        self._lock, self._used = threading.Lock(), 0
        self._blocks: OrderedDict[int, Future[Any]] = OrderedDict()

    def __call__(self, block: int) -> Any:
        with self._lock:
            found = self._blocks.get(block)
            if found is None:
                mine = self._blocks[block] = Future()
                self._used += int(self.block_bytes[block])
                while self._used > MEMORY_BYTES and len(self._blocks) > 1:
                    oldest, _ = self._blocks.popitem(last=False)
                    self._used -= int(self.block_bytes[oldest])
            else:
                self._blocks.move_to_end(block)
        if found is not None:
            return found.result()
        try:
            mine.set_result(self.read(block))
        except BaseException as error:
            mine.set_exception(error)
            with self._lock:  # the next one tries again
                if self._blocks.get(block) is mine:
                    del self._blocks[block]
                    self._used -= int(self.block_bytes[block])
        return mine.result()
