"""What the worst case must reach, by precision, and how a project changes that in its own pyproject.toml.

[tool.mobilevit.parity.fp16]
sqnr_db = 45
top1_agreement = 1.0

[tool.mobilevit.parity.int8]
task_agreement = 0.98
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.files import read_text
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.text import one_line

CONFIG = "pyproject.toml"
TABLE = "tool.mobilevit.parity"


class Threshold(Strict, frozen=True):
    """The minimum SQNR in dB of the worst case, and the minimum share of cases with the same best class.

    Both are measured as `metrics.compare` says: SQNR also of what differs between the classes, and ties are no misses.
    Of an integer precision, edge cases such as noise are reported and do not count. Images of the task, which did not
    calibrate it, judge it by `task_agreement`, the minimum share that keeps the float network's class, and by
    `task_sqnr_db`, the minimum SQNR of all of them together: see `judge.judge_task`.
    """

    sqnr_db: float
    top1_agreement: float
    task_agreement: float | None = None  # None: the precision is not judged by the task
    task_sqnr_db: float | None = None
    reason: str | None = None  # the project's own, for a value below the default

    def below(self, default: Threshold) -> list[str]:
        """What is lower than in `default`, in words."""
        lower = []
        if self.sqnr_db < default.sqnr_db:
            lower.append(f"{self.sqnr_db:g} dB instead of {default.sqnr_db:g} dB")
        if self.top1_agreement < default.top1_agreement:
            lower.append(f"{self.top1_agreement:.4g} of the best classes instead of {default.top1_agreement:.4g}")
        own, minimum = self.task_sqnr_db, default.task_sqnr_db
        if own is not None and minimum is not None and own < minimum:
            lower.append(f"{own:g} dB on the task instead of {minimum:g} dB")
        own, minimum = self.task_agreement, default.task_agreement
        if own is not None and minimum is not None and own < minimum:
            lower.append(f"{own:.4g} of the task's classes instead of {minimum:.4g}")
        return lower


THRESHOLDS = {
    "fp32": Threshold(sqnr_db=90.0, top1_agreement=1.0),
    "fp16": Threshold(sqnr_db=40.0, top1_agreement=0.99),
    # These catch gross faults; how much accuracy is lost is judged by the task.
    "int8": Threshold(sqnr_db=3.0, top1_agreement=0.6, task_agreement=0.93, task_sqnr_db=10.0),
    "int8-dynamic": Threshold(sqnr_db=6.0, top1_agreement=0.75, task_agreement=0.96, task_sqnr_db=13.0),
    "int8-weight": Threshold(sqnr_db=6.0, top1_agreement=0.75, task_agreement=0.96, task_sqnr_db=13.0),
    "int4-weight": Threshold(sqnr_db=0.0, top1_agreement=0.5, task_agreement=0.85, task_sqnr_db=7.0),
}
_MAX = {"sqnr_db": 200.0, "top1_agreement": 1.0, "task_agreement": 1.0, "task_sqnr_db": 200.0}


def find_config(start: Path) -> Path | None:
    """The nearest pyproject.toml with a table `tool.mobilevit`, in the folder `start` or above it.

    Raises RequestError for a pyproject.toml on the way that cannot be read: it might be the one.
    """
    for folder in (start := start.resolve(), *start.parents):
        path = folder / CONFIG
        if path.is_file() and "mobilevit" in _table(_read(path), "tool", path):
            return path
    return None


def read_thresholds(config: Path | None) -> dict[str, Threshold]:
    """The thresholds by precision: the defaults, with the values of [tool.mobilevit.parity] in the file `config`.

    Raises RequestError for a file without such a table, for a wrong key, type or value in it, and for a value below the
    default without a `reason`.
    """
    thresholds = dict(THRESHOLDS)
    if config is None:
        return thresholds
    tools = _table(_read(config), "tool", config)
    if "mobilevit" not in tools:
        raise RequestError(f"{config} has no table [{TABLE}.<precision>]")
    own = _table(tools, "mobilevit", config)
    _check_keys(own, ("parity",), f"{config}: [tool.mobilevit]")
    for precision, values in _table(own, "parity", config).items():
        place = f"{config}: [{TABLE}.{one_line(precision, 40)}]"
        _check_keys({precision: None}, THRESHOLDS, f"{config}: [{TABLE}]")
        if not isinstance(values, dict):
            raise RequestError(f"{place} must be a table with one of {', '.join(_MAX)}")
        default = THRESHOLDS[precision]
        _check_keys(values, _keys(default), place)
        thresholds[precision] = _merged(default, values, place)
    return thresholds


def _keys(default: Threshold) -> list[str]:
    """The keys of a precision: only integer precisions are judged by the task."""
    by_task = default.task_agreement is not None
    return [key for key in Threshold.__struct_fields__ if by_task or not key.startswith("task_")]


def _merged(default: Threshold, values: dict[str, Any], place: str) -> Threshold:
    numbers = {key: _number(values[key], _MAX[key], f"{place} {key}") for key in _MAX if key in values}
    reason = values.get("reason")
    if reason is not None and not (isinstance(reason, str) and one_line(reason)):
        raise RequestError(f"{place} reason must be a sentence in quotes")
    merged = msgspec.structs.replace(default, **numbers, reason=one_line(reason) if reason else None)
    lower = merged.below(default)
    if lower and merged.reason is None:
        raise RequestError(f'{place} is below the default, {", ".join(lower)}; state why: reason = "..."')
    return merged


def _number(value: object, highest: float, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{place} must be a number, not {one_line(repr(value), 40)}")
    if not 0 <= value <= highest:
        raise RequestError(f"{place} must be between 0 and {highest:g}, not {one_line(repr(value), 40)}")
    return float(value)


def _check_keys(table: dict[str, Any], known: Any, place: str) -> None:
    for key in table:
        if key not in known:
            raise RequestError(f"{place} has an unknown key {one_line(key, 40)!r}; {suggest(key, known)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = msgspec.toml.decode(read_text(path))
    except (OSError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} cannot be read as TOML: {one_line(str(error))}") from error
    return document


def _table(document: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    """The table `key`, or an empty one."""
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise RequestError(f"{path}: {key} must be a table, not {one_line(repr(table), 40)}")
    return table
