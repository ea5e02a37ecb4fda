"""Count the ARM64 instructions of an inference: every format that runs there, its precisions, one network a family.

    python benchmarks/arm_instructions.py                            # what the table lacks; writes it and its page
    python benchmarks/arm_instructions.py --models efficientvit_m0 --check   # exit code 1 at 2% more than in the table

Networks have their published size and random weights (seed 0); integers are calibrated with the images that parity
uses. An emulated Cortex-A76 executes the files in one thread (`mobilevit doctor --install arm64`), so a count is the
same on every machine, busy or not. It takes 20 s to a few minutes a file; what is counted is kept, so an interrupted
run resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from arm_instructions_page import Counted, write_instructions_page
from PIL import Image
from shared import MEASURED, read_record, tell, write_record

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import open_artifact
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.formats.quantization import QUANTIZED
from mobilevit_sdk.formats.runtime import CountedRuntime
from mobilevit_sdk.models.meta_model import count_macs
from mobilevit_sdk.models.registry import model_spec
from mobilevit_sdk.spec import Preprocessing

MODELS = ("mobilevit_xxs", "tiny_vit_5m_224", "efficientvit_m0", "mobilevitv2_050")
FORMATS = ("executorch", "tflite")
PRECISIONS = ("fp32", "int8", "fp16", "int8-dynamic")
KEPT = 24  # mnemonics of a file, the commonest
MAX_RATIO = 1.02  # of a count to that in the table
TABLE = MEASURED / "arm-instructions.json"


def main() -> int:
    """Count, or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--out", type=Path, default=Path("out/arm-instructions"), help="folder of the artifacts")
    parser.add_argument("--table", type=Path, default=TABLE, help="the table to complete or to check against")
    parser.add_argument("--check", action="store_true", help="count what the table holds again, and compare")
    parser.add_argument("--page", action="store_true", help="only write the page from the table")
    options = parser.parse_args()
    known = {row.key: row for row in read_record(options.table, list[Counted])} if options.table.exists() else {}
    wanted = [
        (model, name, precision)
        for model in options.models.split(",")
        for precision in options.precisions.split(",")
        for name in options.formats.split(",")
        if precision in find_converter(name).precisions
    ]
    if options.check:
        return _check([known[key] for key in wanted if key in known], options.out)
    for key in [] if options.page else wanted:
        if key not in known:
            known[key] = _count(*key, options.out)
            write_record(sorted(known.values(), key=_place), options.table)
    if options.table == TABLE:
        write_instructions_page(sorted(known.values(), key=_place), MEASURED / "arm-instructions.md")
    return 0


def _check(rows: Sequence[Counted], out: Path) -> int:
    """Compare with what the table says. Nothing to compare is a failure."""
    worse = 0
    for row in rows:
        now = _count(*row.key, out)
        ratio = now.instructions / row.instructions
        worse += ratio > MAX_RATIO
        verdict = "worse" if ratio > MAX_RATIO else "as before" if ratio > 1 / MAX_RATIO else "better"
        tell(f"{verdict}: {' '.join(row.key)}: {now.instructions:,}, {ratio - 1:+.2%} of {row.runtime}'s")
    return 1 if worse or not rows else 0


def _count(model: str, name: str, precision: str, out: Path) -> Counted:
    spec = model_spec(model)
    images = _images(spec.preprocessing, out / "images")
    made = convert(
        random_checkpoint(spec, seed=0),
        **{"out": out, "formats": name, "precisions": precision, "check": False},
        calibration=images if precision in QUANTIZED else None,
    )
    folder = out / f"{model}-{name}-{precision}"
    if not folder.exists():  # random weights tell classes apart by little: integers may change some
        folder = folder.with_name(f"{folder.name}.rejected")
    if not folder.exists():
        raise SystemExit(f"{model} {name} {precision}: {'; '.join(each.error for each in made.failures)}")
    artifact = open_artifact(folder)
    (runtime,) = (each for each in artifact.converter.runtimes if isinstance(each, CountedRuntime))
    counted = runtime.count_instructions(artifact.path, artifact.reference().cases[0].image)
    row = Counted(
        *(model, name, precision, runtime.availability().version or ""),
        macs=count_macs(spec),
        instructions=counted.total,
        by_mnemonic=dict(sorted(counted.by_mnemonic.items(), key=lambda each: -each[1])[:KEPT]),
    )
    tell(f"{model} {name} {precision}: {row.instructions:,} instructions")
    return row


def _images(preprocessing: Preprocessing, folder: Path) -> Path:
    folder = folder / "x".join(map(str, preprocessing.image_size))
    if not (folder / "00.png").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for number, case in enumerate(builtin_cases(preprocessing)):
            Image.fromarray(case.image.transpose(1, 2, 0)).save(folder / f"{number:02}.png")
    return folder


def _place(row: Counted) -> tuple[int, int, int]:
    def among(names: Sequence[str], name: str) -> int:
        return names.index(name) if name in names else len(names)

    return among(MODELS, row.model), among(FORMATS, row.format), among(PRECISIONS, row.precision)


if __name__ == "__main__":
    sys.exit(main())
