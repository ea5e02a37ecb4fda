"""What the benchmarks share: where their pages go, records that survive an interruption, lines of progress."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypeVar

import msgspec

from mobilevit_sdk.files import replacing
from mobilevit_sdk.formats.converter import Converter
from mobilevit_sdk.formats.runtime import OnRequestRuntime

MEASURED = Path(__file__).parent.parent / "docs" / "measured"

T = TypeVar("T")


def tell(text: str) -> None:
    """A line of progress with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def usual_runtimes(converter: Converter) -> list[str]:
    """The names of a format's runtimes that run here without being asked for."""
    return [each.name for each in converter.runtimes if each.availability() and not isinstance(each, OnRequestRuntime)]


def read_record(path: Path, kind: type[T]) -> T:
    return msgspec.json.decode(path.read_bytes(), type=kind)


def write_record(record: T, path: Path) -> T:
    with replacing(path) as fresh:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    return record


def read_log(path: Path, kind: type[T]) -> list[T]:
    """The records of a file with one on each line; none if the file does not exist."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=kind) for line in lines]


def append_to_log(record: object, path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(msgspec.json.encode(record) + b"\n")


def write_page(text: str, path: Path) -> None:
    with replacing(path) as fresh:
        fresh.write_text(text, "utf-8")


def bold_above(value: float, limit: float, form: str = ".2f") -> str:
    """`value` as a cell of a table, in bold where it is above the bar `limit`."""
    text = f"{value:{form}}"
    return text if value <= limit else f"**{text}**"
