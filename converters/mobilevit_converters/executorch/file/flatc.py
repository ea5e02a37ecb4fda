"""The FlatBuffers compiler in ExecuTorch's wheel: verifies a buffer against its schema and prints it as JSON.

It runs in a process of its own, so a malformed buffer cannot take this one down.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mobilevit_converters.executorch.toolchain import flatc
from mobilevit_sdk.errors import ToolchainError

TIMEOUT = 60.0  # seconds; a program of 10,000 operators takes less than one
MAX_FLATBUFFER = 1 << 24  # bytes; a program without its weights is far smaller

# Numbers that are not finite, which JSON lacks: as flatc prints and reads them, and in two dialects.
AS_NULL = {"inf": "null", "-inf": "null", "nan": "null", "-nan": "null"}
AS_PYTHON = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN", "-nan": "NaN"}
_FROM_PYTHON = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}
_STRING_OR_NON_FINITE = re.compile(r'"(?:[^"\\]|\\.)*"|-?\b(?:inf|nan|Infinity|NaN)\b')


def to_json(schema: Path, flatbuffer: bytes, non_finite: Mapping[str, str]) -> str:
    """`flatbuffer` as JSON, all default values included; `non_finite` replaces flatc's names of infinities and NaN.

    Raises ValueError for a buffer that does not follow `schema`, is too large, or never ends.
    """
    if len(flatbuffer) > MAX_FLATBUFFER:
        raise ValueError(f"its program has {len(flatbuffer) >> 20} MiB without its weights")
    options = ("--json", "--strict-json", "--defaults-json")
    try:
        printed = _run(schema, options, "table.bin", flatbuffer).decode()
    except UnicodeDecodeError as error:
        raise ValueError("it holds text that is not UTF-8") from error
    return _renamed(printed, non_finite)


def to_flatbuffer(schema: Path, text: str) -> bytes:
    """The buffer of `text`, JSON as Python writes it. Raises ValueError where it does not follow `schema`."""
    return _run(schema, ("--binary",), "table.json", _renamed(text, _FROM_PYTHON).encode())


def _renamed(text: str, names: Mapping[str, str]) -> str:
    return _STRING_OR_NON_FINITE.sub(lambda match: names.get(match[0], match[0]), text)


def _run(schema: Path, options: tuple[str, ...], name: str, content: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / name, Path(folder) / "made"
        given.write_bytes(content)
        data = ["--", given] if given.suffix == ".bin" else [given]  # a buffer without a known extension
        command = [flatc(), *options, "-o", made, schema, *data]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired as error:
            raise ValueError("its program has no end") from error
        except OSError as error:
            raise ToolchainError(f"ExecuTorch's flatc does not start: {error}") from error
        files = list(made.iterdir()) if made.is_dir() else []
        if done.returncode or len(files) != 1:
            raise ValueError(f"it does not follow {schema.name}")
        return files[0].read_bytes()
