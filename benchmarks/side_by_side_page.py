"""The page docs/measured/timmx.md: what `side_by_side.py` and `side_by_side_faults.py` measured, as tables."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import msgspec
from shared import MEASURED, read_record, write_page

PAGE = MEASURED / "timmx.md"
RESULTS = MEASURED / "timmx.json"
OURS, TIMMX = "mobilevit", "timmx"
FORMATS = {"onnx": "ONNX", "tflite": "TFLite", "executorch": "ExecuTorch", "coreml": "Core ML"}


class Converted(msgspec.Struct, frozen=True):
    """One command of one side, and the file that it left.

    Seconds are of the whole command, and `cpu_seconds` of all its processes. `sqnr_db` is the worst of twenty
    photographs against timm's own float32 answers. `delegates` and `outside` say how the runtime of
    this machine takes the file, `gpu` how LiteRT's GPU does: in dB where it takes all of it, else the reason.
    """

    model: str
    format: str
    precision: str
    side: str
    exit_code: int
    seconds: float
    cpu_seconds: float
    says: str
    bytes: int | None = None
    sqnr_db: float | None = None
    delegates: int | None = None
    outside: int | None = None
    hazards: int | None = None
    gpu: float | str | None = None


class Raced(msgspec.Struct, frozen=True):
    """Median milliseconds of one image, and the median over the rounds of ours divided by timmx's."""

    model: str
    format: str
    precision: str
    ours_ms: float
    timmx_ms: float
    ratio: float


class Planted(msgspec.Struct, frozen=True):
    """What one side's commands did about one fault. `effect_db`: the wrong file against timm; None for no file.

    `exit_code` is None where the side has no command that could look.
    """

    fault: str
    side: str
    exit_code: int | None
    says: str
    effect_db: float | None = None


class Results(msgspec.Struct):
    """All that was measured so far."""

    machine: str = ""
    versions: dict[str, str] = {}
    converted: list[Converted] = []
    raced: list[Raced] = []
    planted: list[Planted] = []


def pairs(results: Results) -> list[tuple[Converted, Converted]]:
    """Ours and timmx's of each cell that both were asked for."""
    theirs = {(each.model, each.format, each.precision): each for each in results.converted if each.side == TIMMX}
    ours = [each for each in results.converted if each.side == OURS]
    return [(each, theirs[key]) for each in ours if (key := (each.model, each.format, each.precision)) in theirs]


def ratio_of(found: list[tuple[Converted, Converted]], field: str) -> str:
    """Median and range of ours over timmx's."""
    values = [getattr(one, field) / getattr(other, field) for one, other in found if getattr(other, field)]
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "none"


def number(value: float | None, form: str = ".1f") -> str:
    return "" if value is None else f"{value:{form}}"


def gpu_cell(each: Converted) -> str:
    if isinstance(each.gpu, float):
        return f"{each.gpu:.0f} dB"
    return "refused" if each.gpu else ""


def conversions_table(found: list[tuple[Converted, Converted]], raced: list[Raced]) -> list[str]:
    latency = {(each.model, each.format, each.precision): each for each in raced}
    lines = [
        "| network | file | | exit | CPU s | MB | SQNR, dB | delegates, outside | LiteRT GPU | ms |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for pair in sorted(found, key=lambda each: each[0].model):
        race = latency.get((pair[0].model, pair[0].format, pair[0].precision))
        for each in pair:
            first = each.side == OURS
            ms = (race.ours_ms if first else race.timmx_ms) if race else None
            taken = "" if each.delegates is None else f"{each.delegates}, {each.outside}"
            cells = (
                each.model if first else "",
                f"{FORMATS[each.format]} {each.precision}" if first else "",
                each.side,
                each.exit_code,
                number(each.cpu_seconds, ".0f"),
                number(each.bytes / 1e6 if each.bytes else None, ".2f"),
                number(each.sqnr_db),
                taken,
                gpu_cell(each),
                number(ms, ".2f"),
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def write_side_by_side(results: Results, page: Path = PAGE) -> None:
    from side_by_side_words import page_text

    write_page(page_text(results), page)


if __name__ == "__main__":
    write_side_by_side(read_record(RESULTS, Results))
