"""From what a user asks for to conversions: every format with every requested precision that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobilevit_sdk.errors import RequestError, ToolchainError, suggest
from mobilevit_sdk.formats.converter import Converter, HoldsSizes, converters, find_converter, label
from mobilevit_sdk.formats.quantization import QUANTIZED


@dataclass(frozen=True)
class Conversion:
    """One file to make."""

    converter: Converter
    precision: str

    @property
    def name(self) -> str:
        """Such as "tflite fp32"."""
        return f"{label(self.converter)} {self.precision}"


def plan_conversions(formats: Sequence[str], precisions: Sequence[str], backend: str | None) -> list[Conversion]:
    """The conversions of a request: all installed formats by default, each in its own precision by default.

    A precision that some of several formats lack is left out there: see `plan_notes`. Raises RequestError for unknown
    names and for a format that has none of the precisions, ToolchainError for a toolchain that is not installed.
    """
    chosen = [find_converter(name, backend) for name in dict.fromkeys(formats or converters())]
    known = {precision for converter in chosen for precision in (*converter.precisions, *converter.nearest_precision)}
    for precision in precisions:
        if precision not in known:
            raise RequestError(f"no chosen format has precision {precision!r}; {suggest(precision, known)}")
    plan = []
    for converter in chosen:
        wanted = [p for p in dict.fromkeys(precisions) if p in converter.precisions]
        if precisions and not wanted:
            raise RequestError(_refusal(converter, precisions))
        require_toolchain(converter)
        plan += [Conversion(converter, precision) for precision in wanted or converter.precisions[:1]]
    return plan


def plan_sizes(plan: Sequence[Conversion], formats: Sequence[str]) -> tuple[list[Conversion], list[str]]:
    """The conversions whose files may hold several image sizes, and notes on the others, which are left out.

    Raises RequestError for those where `formats` asks for them.
    """
    able, notes = [], []
    for conversion in plan:
        converter = conversion.converter
        if isinstance(converter, HoldsSizes):
            reason = converter.refuses_sizes(conversion.precision)
        else:
            reason = f"{label(converter)} files hold one size; convert each into a folder of its own"
        if not reason:
            able.append(conversion)
        elif formats:
            raise RequestError(f"{conversion.name} with several image sizes: {reason}")
        else:
            notes.append(f"{conversion.name} is left out: {reason}")
    return able, notes


def require_toolchain(converter: Converter) -> None:
    """Raise ToolchainError for a converter whose toolchain is not installed."""
    availability = converter.availability()
    if not availability:
        raise ToolchainError(f"cannot convert to {converter.format}: {availability.reason}")


def plan_notes(
    plan: Sequence[Conversion], precisions: Sequence[str], *, calibration: object = None, recipe: object = None
) -> list[str]:
    """What of a request its plan does without: precisions that a format lacks, and what only integers would use."""
    notes = []
    for converter in dict.fromkeys(conversion.converter for conversion in plan):
        lacking = [p for p in dict.fromkeys(precisions) if p not in converter.precisions]
        if lacking:
            notes.append(f"{_lack(converter, lacking)}; no such file is made")
    given = [name for name, value in (("calibration", calibration), ("recipe", recipe)) if value is not None]
    if not any(conversion.precision in QUANTIZED for conversion in plan):
        made = ", ".join(dict.fromkeys(conversion.precision for conversion in plan))
        notes += [f"`{name}` is for integer precisions and has no effect on {made}" for name in given]
    return notes


def _lack(converter: Converter, precisions: Sequence[str]) -> str:
    nearest = [
        f"{p} comes nearest in {converter.nearest_precision[p]}" for p in precisions if p in converter.nearest_precision
    ]
    advice = "; ".join(nearest) or f"it has {', '.join(converter.precisions)}"
    return f"{label(converter)} has no {' or '.join(precisions)} ({advice})"


def _refusal(converter: Converter, precisions: Sequence[str]) -> str:
    return f"{_lack(converter, precisions)}; leave it out of `formats`, or add one of its precisions"
