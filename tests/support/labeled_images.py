"""Small labeled pictures whose class can be learned, as folders and Parquet files."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

NAMES = tuple(f"class {i}" for i in range(5))  # those of tests/support/helpers.py::tiny_spec


def pictures(count: int, *, size: int = 40, seed: int = 0) -> list[tuple[bytes, int]]:
    """PNGs of stripes in five colors and frequencies, with noise, and their classes."""
    random = np.random.default_rng(seed)
    result = []
    for index in range(count):
        label = index % len(NAMES)
        wave = np.sin(np.arange(size) * (0.2 + 0.3 * label) + random.uniform(0, 6))
        color = np.array([np.cos(label), np.cos(2 * label + 1), np.sin(label)])
        pixels = 128 + 70 * wave[None, :, None] * color + random.normal(0, 15, (size, size, 3))
        result.append((encode(pixels.clip(0, 255).astype(np.uint8)), label))
    return result


def encode(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3] -> PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(folder: Path, images: Sequence[tuple[bytes, int]]) -> Path:
    for index, (encoded, label) in enumerate(images):
        path = folder / NAMES[label] / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    return folder


def write_parquet(path: Path, images: Sequence[tuple[bytes, int]], *, metadata: bytes | None = None) -> Path:
    """As the `datasets` library writes it; `metadata` replaces what it says about the classes."""
    if metadata is None:
        metadata = json.dumps({"info": {"features": {"label": {"names": NAMES, "_type": "ClassLabel"}}}}).encode()
    columns = {
        "image": [{"bytes": encoded, "path": None} for encoded, _ in images],
        "label": [label for _, label in images],
    }
    return write_columns(path, columns, metadata)


def write_columns(path: Path, columns: dict[str, Any], metadata: bytes = b"{}") -> Path:
    table = pyarrow.table(columns).replace_schema_metadata({b"huggingface": metadata})
    pyarrow.parquet.write_table(table, path)
    return path
