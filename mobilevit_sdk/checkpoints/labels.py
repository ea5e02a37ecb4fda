"""Class names from a file: lines of text, or the JSON that transformers, torchvision code, timm and Keras write."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import decode_json, read_text
from mobilevit_sdk.text import one_line

# Where names stand in a larger document, the first that is there: timm's `config.json`, that of transformers, which has
# both directions, and `class_to_idx` of torchvision's data sets.
_KEYS = ("label_names", "id2label", "label2id", "class_to_idx")
_BY_INDEX = ("id2label",)
_BY_NAME = ("label2id", "class_to_idx")
_LINE_END = re.compile("\r\n|\r|\n")  # str.splitlines also cuts at U+2028, U+0085, form feeds and more
_EXPECTED = 'expected a list of names, {"0": "cat"}, {"cat": 0}, or {"0": ["n02123045", "cat"]}'


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names in the order of the classes, from lines of text or from JSON; blank lines do not count.

    JSON is a list of names or a mapping between indices and names, in either direction: `id2label` and `label2id` of
    transformers, alone or in a whole `config.json`; `class_to_idx` of torchvision's folders; `label_names` of timm;
    Keras's `imagenet_class_index`. Raises RequestError for a file that cannot be read, for other JSON, and for indices
    that are not 0, 1, 2 and so on without gaps.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read the labels in {path}: {getattr(error, 'strerror', error)}") from error
    document = _parse(text, path)
    if document is None:
        labels = tuple(name for line in _LINE_END.split(text) if (name := line.strip(" \t")))
    else:
        labels = _from_json(document, path)
    if not labels:
        raise RequestError(f"{path} holds no class names")
    return labels


def _parse(text: str, path: Path) -> Any:
    """The JSON document, or None for lines of text."""
    start = text.lstrip()[:1]
    if path.suffix.lower() != ".json" and start not in ("{", "["):
        return None
    try:
        return decode_json(text, Any)
    except ValueError as error:
        if path.suffix.lower() != ".json" and start == "[":  # a name such as [background]
            return None
        raise RequestError(f"{path} is not JSON: {one_line(str(error))}") from error


def _from_json(document: Any, path: Path) -> tuple[str, ...]:
    key = next((key for key in _KEYS if key in document), None) if isinstance(document, dict) else None
    found = document if key is None else document[key]
    place = str(path) if key is None else f"{key} of {path}"
    readings = [in_order(numbered) for pairs in _candidates(found, key) if (numbered := _numbered(pairs))]
    orders = {reading for reading in readings if isinstance(reading, tuple)}
    if len(orders) == 1:
        return orders.pop()
    if orders:
        raise RequestError(f"{place} can be read both ways, as its names are numbers; give a list of names")
    raise RequestError(f"{place} {readings[0]}" if readings else f"{place} is not class names; {_EXPECTED}")


def _candidates(found: Any, key: str | None) -> Iterable[Iterable[tuple[Any, Any]]]:
    """What may be pairs of an index and a name; a mapping without a key that says so may be in either direction."""
    if isinstance(found, list):
        yield enumerate(found)
    elif isinstance(found, dict):
        if key not in _BY_NAME:
            yield found.items()
        if key not in _BY_INDEX:
            yield ((value, name) for name, value in found.items())


def _numbered(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[int, str]] | None:
    """The pairs, if each is an index and a name; an index may be digits, as JSON's keys and many label2id are."""
    numbered = []
    for index, name in pairs:
        if isinstance(index, str) and re.fullmatch("0|[1-9][0-9]{0,8}", index):
            index = int(index)
        if isinstance(name, list) and len(name) == 2:  # Keras: [WordNet ID, name]
            name = name[1]
        if type(index) is not int or not isinstance(name, str) or not name.strip():
            return None
        numbered.append((index, name))
    return sorted(numbered, key=lambda pair: pair[0])


def in_order(numbered: list[tuple[int, str]]) -> tuple[str, ...] | str:
    """The names of pairs that are sorted by index, or what is wrong with their indices, in words."""
    for expected, (index, name) in enumerate(numbered):
        if index != expected:
            wrong = f"has class {index} twice" if index < expected else f"has no class {expected}"
            return f"{wrong} (the next is {index}, {one_line(name, 40)!r}); number the classes from 0 without gaps"
    return tuple(name for _, name in numbered)
