"""What the steps of a comparison found, kept beside its files: an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from mobilevit_sdk.files import decode_json, replacing
from mobilevit_sdk.spec import Strict

T = TypeVar("T")


class _Stored(Strict, frozen=True):
    key: str
    value: msgspec.Raw


class Store:
    """A file for each step in `folder`. What a step depends on is its key: where that differs, it is done again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def value(
        self, name: str, key: Any, kind: type[T], make: Callable[[], T], *, keep: Callable[[T], bool] = lambda _: True
    ) -> T:
        """The stored value of type `kind`, or that of `make`, which is stored where it is to be kept."""
        file, digest = self._folder / f"{name}.json", _digest(key)
        try:
            stored = decode_json(file.read_bytes(), _Stored)
            if stored.key == digest:
                return decode_json(stored.value, kind)
        except (OSError, ValueError):
            pass  # there is none, or it is damaged
        made = make()
        if keep(made):
            with replacing(file) as fresh:
                fresh.write_bytes(msgspec.json.encode({"key": digest, "value": made}))
        return made

    def scores(self, name: str, key: Any, shape: tuple[int, int], make: Callable[[], np.ndarray]) -> np.ndarray:
        """The stored scores, float32 [images, num_classes], or those of `make`, which are stored."""
        import safetensors
        import safetensors.numpy

        file, digest = self._folder / f"{name}.safetensors", _digest(key)
        try:
            with safetensors.safe_open(file, framework="numpy") as stored:
                scores: np.ndarray = stored.get_tensor("scores")
                if (stored.metadata() or {}).get("key") == digest and scores.shape == shape:
                    return scores
        except (OSError, safetensors.SafetensorError):
            pass
        made = make()
        with replacing(file) as fresh:
            fresh.write_bytes(safetensors.numpy.save({"scores": made}, metadata={"key": digest}))
        return made


def _digest(key: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(key)).hexdigest()
