"""Which values of a recipe a sweep tries."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.recipe import Recipe

Kind = Literal["values", "uniform", "log", "int"]
_DRAWN = re.compile(r"(uniform|log|int)\(([^,()]+),([^,()]+)\)")


@dataclass(frozen=True)
class Values:
    """Some values, each of which is tried, or a range that trials draw from: evenly, by the logarithm, or integers."""

    kind: Kind
    values: tuple[Any, ...]  # or the lowest and the highest

    @property
    def drawn(self) -> bool:
        return self.kind != "values"


@dataclass(frozen=True)
class Trial:
    """One training of a sweep: the values that it tried, and how it did on the images that measure them."""

    number: int
    values: dict[str, Any]
    epochs: int  # finished
    quality: dict[str, float]  # of its last epoch, such as top1; empty where it failed
    problem: str = ""  # why it failed

    @property
    def deciding(self) -> float:
        """What trials are ordered by: top-1 or AP, less than any where it failed."""
        return next(iter(self.quality.values()), -1.0)


def parse_values(text: str) -> Values:
    """`1e-4,1e-3` (JSON values, or words), `uniform(0, 1)`, `log(1e-4, 1e-2)` or `int(1, 8)`.

    Raises RequestError for anything else, for a range that is empty, and for a logarithm of what is not positive.
    """
    if match := _DRAWN.fullmatch(text.strip()):
        kind, low, high = match[1], *(_value(each) for each in match.groups()[1:])
        is_number = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (low, high))
        if not is_number or not low < high or (kind == "log" and low <= 0):
            raise RequestError(f"{text!r} must have a lower and a higher number, above 0 for a logarithm")
        if kind == "int" and not all(isinstance(each, int) for each in (low, high)):
            raise RequestError(f"{text!r} must have two integers")
        return Values(kind, (low, high))  # type: ignore[arg-type]
    if "(" in text and not text.lstrip().startswith(("[", '"')):
        raise RequestError(f"{text!r} is neither values nor uniform(LOW, HIGH), log(LOW, HIGH) or int(LOW, HIGH)")
    values = _values(text)
    if not values:
        raise RequestError("a parameter of a sweep needs values, such as learning_rate=1e-4,1e-3")
    return Values("values", values)


def as_values(given: Values | Sequence[Any] | str) -> Values:
    """Listed values, or as `parse_values` takes them."""
    if isinstance(given, str):
        return parse_values(given)
    return given if isinstance(given, Values) else Values("values", tuple(given))


def _values(text: str) -> tuple[Any, ...]:
    try:
        return tuple(json.loads(f"[{text}]"))
    except ValueError:
        return tuple(_value(each) for each in text.split(",") if each.strip())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def with_values(recipe: Recipe, chosen: Mapping[str, Any]) -> Recipe:
    """The recipe with these fields; `distillation.weight` is a field of a field.

    One that the recipe leaves out starts from its defaults. Raises RequestError naming a wrong field or value.
    """
    plain = msgspec.to_builtins(recipe)
    for name, value in chosen.items():
        parts = name.split(".")
        if parts[0] not in plain:
            raise RequestError(f"a recipe has no field {parts[0]!r}; {suggest(parts[0], plain)}")
        inner = plain
        for part in parts[:-1]:
            if inner.get(part) is None:
                inner[part] = {}
            inner = inner[part]
            if not isinstance(inner, dict):
                raise RequestError(f"the recipe's {part} is one value and has no field {parts[-1]!r}")
        inner[parts[-1]] = value
    try:
        return msgspec.convert(plain, Recipe)
    except (msgspec.ValidationError, ValueError) as error:
        said = ", ".join(f"{name}={json.dumps(value)}" for name, value in chosen.items())
        raise RequestError(f"no recipe has {said}: {error}") from error


def check_space(recipe: Recipe, space: Mapping[str, Values]) -> None:
    """Raise RequestError unless the recipe takes every value, and both ends of every range."""
    for name, each in space.items():
        for value in each.values:
            with_values(recipe, {name: value})
