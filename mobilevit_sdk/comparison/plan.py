"""Which files are compared: every format with every backend and precision, or those that are named."""

from __future__ import annotations

from collections.abc import Sequence

from mobilevit_sdk.conversion.plan import Conversion
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.formats.converter import Converter, converters, find_converter
from mobilevit_sdk.formats.quantization import PRECISIONS

DEFAULT = "default"  # stands for each format's own backend


def plan_comparison(
    formats: Sequence[str] = (), precisions: Sequence[str] = (), backends: Sequence[str] = ()
) -> list[Conversion]:
    """Every conversion that the installed converters offer and the names, where there are any, do not leave out.

    Of `backends`, "default" is that of each format. Toolchains that are missing stay in the plan: that they are is a
    result. Raises RequestError for unknown names, and where nothing is left.
    """
    offered = [converter for name in formats or converters() for converter in _variants(find_converter(name))]
    own = {converter.backend for converter in offered if converter.backend}
    known = {"backends": (backends, own | {DEFAULT}), "precisions": (precisions, PRECISIONS)}
    for option, (given, names) in known.items():
        for name in given:
            if name not in names:
                raise RequestError(f"no chosen format has {name!r} among its {option}; {suggest(name, names)}")
    plan = [
        Conversion(converter, precision)
        for converter in offered
        if not backends or converter.backend in backends or (DEFAULT in backends and _is_default(converter))
        for precision in converter.precisions
        if not precisions or precision in precisions
    ]
    if not plan:
        raise RequestError("no format has these backends in these precisions; leave out `backends` or `precisions`")
    return plan


def _variants(converter: Converter) -> list[Converter]:
    """A format's converter for each of its backends, the default first."""
    others = [each for each in converter.backends.values() if each.backend != converter.backend]
    return [converter, *others]


def _is_default(converter: Converter) -> bool:
    return converter.backend == find_converter(converter.format).backend
