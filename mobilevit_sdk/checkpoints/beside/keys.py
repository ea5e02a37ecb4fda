"""A JSON file whose keys are each taken, known to be harmless, or named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import decode_json, read_text
from mobilevit_sdk.text import one_line, shorten

MAX_BYTES = 32_000_000  # 21,841 classes with their descriptions take 3 MB


class UnreadableError(CheckpointError):
    """A file holds no JSON object."""


class Keys:
    """The keys of a JSON object; those that nobody takes are `left`. Keys whose value is null count as absent."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {key: value for key, value in values.items() if value is not None}
        self._taken: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def peek(self, key: str) -> Any:
        """The value of `key`, None where there is none, without taking it."""
        return self._values.get(key)

    def take(self, key: str, kind: Any) -> Any:
        """The value of `key`, None where there is none. Raises ValueError, with the key, for one of another type."""
        self._taken.add(key)
        if key not in self._values:
            return None
        try:
            return msgspec.convert(self._values[key], kind, str_keys=True)
        except msgspec.ValidationError as error:
            raise ValueError(f"{key} is {plain(self._values[key])}: {one_line(str(error))}") from error

    def skip(self, *keys: str) -> None:
        """Count these keys as taken: something else decides what they would."""
        self._taken.update(keys)

    def inside(self, key: str) -> Keys:
        """The object that `key` holds, empty where there is none. Raises ValueError for anything else."""
        return Keys(self.take(key, dict[str, Any]) or {})

    def left(self, harmless: Iterable[str] = ()) -> list[str]:
        """The keys that were not taken and are not harmless."""
        return [key for key in self._values if key not in self._taken and key not in set(harmless)]


def read_json(path: Path, source: str) -> Keys | None:
    """The keys of a JSON file, None where there is no file. Raises UnreadableError where it holds no JSON object."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableError(f"{source}: {path.name} is larger than {MAX_BYTES // 1_000_000} MB")
        return Keys(decode_json(read_text(path), dict[str, Any]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = one_line(getattr(error, "strerror", None) or str(error))
        raise UnreadableError(f"{source}: cannot read {path.name}: {reason}") from error


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def plain(value: Any) -> str:
    """A value as JSON, short enough for an error."""
    return one_line(msgspec.json.encode(value).decode(), 80)


def unknown_note(file: str, keys: list[str]) -> tuple[str, ...]:
    """A note that names keys which nobody here understands."""
    return (f"{file} holds keys that are not followed here: {shorten(keys, 40)}",) if keys else ()
