"""Convert the same checkpoints with mobilevit-sdk and with timmx, and compare the commands and their files.

    python -m venv ../timmx-venv
    ../timmx-venv/bin/pip install 'timmx[coreml,executorch,litert,onnx]==0.10.1'
    python benchmarks/side_by_side.py --timmx ../timmx-venv/bin/timmx
    python benchmarks/side_by_side_faults.py --timmx ../timmx-venv/bin/timmx

Checkpoints are random and non-degenerate (seed 0), under timm's names. Each cell is one command of each side, one right
after the other, which of them first by turns, both with their default checks. Then the same code runs both files on the
same photographs, against timm's own float32 answers, and times them in interleaved rounds. Results go to
docs/measured/timmx.json, so an interrupted run resumes; the page is written at the end. The files stay in `--out`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from shared import read_record, tell, write_record
from side_by_side_files import look_at, open_session, photographs_of
from side_by_side_page import OURS, RESULTS, TIMMX, Converted, Raced, Results, write_side_by_side

from mobilevit_sdk.bench.machine import describe_machine
from mobilevit_sdk.bench.rounds import interleave
from mobilevit_sdk.bench.worker import Worker
from mobilevit_sdk.checkpoints.export import export_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data.cases import photographs
from mobilevit_sdk.data.pictures import decode_picture
from mobilevit_sdk.errors import MobileViTError
from mobilevit_sdk.models.registry import model_spec

MODELS = ("mobilevit_xxs", "efficientvit_m0", "vit_tiny_patch16_224", "tiny_vit_5m_224", "mobilevitv2_050")
SUFFIX = {"onnx": ".onnx", "tflite": ".tflite", "executorch": ".pte", "coreml": ".mlpackage"}
# By format and precision, what timmx calls it.
CELLS: dict[tuple[str, str], list[str]] = {
    ("tflite", "fp32"): ["litert", "--nhwc-input"],
    ("executorch", "fp32"): ["executorch"],
    ("onnx", "fp32"): ["onnx"],
    ("coreml", "fp16"): ["coreml", "--image-input", "--compute-precision", "float16"],
    ("tflite", "int8"): ["litert", "--nhwc-input", "--mode", "int8"],
    ("tflite", "fp16"): ["litert", "--nhwc-input", "--mode", "fp16"],
    ("executorch", "int8"): ["executorch", "--mode", "int8"],
    ("coreml", "fp32"): ["coreml", "--image-input", "--compute-precision", "float32"],
    ("coreml", "int8-weight"): ["coreml", "--image-input", "--compute-precision", "float16", "--int8"],
}
PHOTOGRAPHS = 32  # to calibrate with: crops, other than those that the files are judged on


def command(side: str, timmx: Path, model: str, cell: tuple[str, str], out: Path, folder: Path) -> list[str]:
    """What a user types. Both files take RGB in [0, 1] and normalize it inside; a Core ML file takes a picture."""
    checkpoint, (format_name, precision) = out / "checkpoints" / f"{model}.safetensors", cell
    calibration = ["--calibration-data" if side == TIMMX else "--calibration", out / "photographs"]
    words: list[Any] = calibration if precision == "int8" else []
    if side == TIMMX:
        name, *how = CELLS[cell]
        words = [timmx, "export", name, model, "--checkpoint", checkpoint, "--normalize", *how, *words]
        words += ["--output", folder / f"{model}-{precision}{SUFFIX[format_name]}"]
    else:
        words = [Path(sys.executable).with_name("mobilevit"), "convert", checkpoint, *words, "--out", folder, "--force"]
        words += ["--to", format_name, "--precision", precision]
    return [str(word) for word in words]


def convert(side: str, timmx: Path, model: str, cell: tuple[str, str], out: Path) -> Converted:
    """Run a side's command, and look at its file."""
    folder = out / f"{model}-{'-'.join(cell)}-{side}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("w") as log:
        started = time.monotonic()
        process = subprocess.Popen(command(side, timmx, model, cell, out, folder), stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = [line.strip() for line in (folder / "log.txt").read_text("utf-8", "replace").splitlines() if line.strip()]
    row = Converted(
        model,
        *cell,
        side,
        process.returncode,
        round(seconds, 1),
        round(usage.ru_utime + usage.ru_stime, 1),
        lines[-1][:160] if lines else "",
    )
    file = file_of(out, model, cell, side)
    if file is None:
        return row
    found = look_at(file, model, cell[0], out / "checkpoints" / f"{model}.safetensors")
    return Converted(**{each: getattr(row, each) for each in row.__struct_fields__ if each not in found}, **found)


def file_of(out: Path, model: str, cell: tuple[str, str], side: str) -> Path | None:
    return next((out / f"{model}-{'-'.join(cell)}-{side}").rglob(f"*{SUFFIX[cell[0]]}"), None)


def race(model: str, cell: tuple[str, str], out: Path, rounds: int) -> Raced | None:
    """Both files alive at once, each in its own process on one thread, in turns."""
    files = {side: file_of(out, model, cell, side) for side in (OURS, TIMMX)}
    if cell[0] == "coreml" or None in files.values():
        return None
    image = photographs_of(model)[0]
    workers = {side: Worker(partial(open_session, cell[0], file), 1, image) for side, file in files.items() if file}
    try:
        for worker in workers.values():
            worker.scores()
        timings = interleave(list(workers.values()), rounds, pause=0.05)
    except MobileViTError as error:
        tell(f"{model} {cell}: not timed: {error}")
        return None
    finally:
        for worker in workers.values():
            worker.stop()
    found = {side: np.array(timings[worker]).reshape(rounds, -1) for side, worker in workers.items()}
    ratios = [median(one) / median(other) for one, other in zip(found[OURS], found[TIMMX], strict=True)]
    middle = {side: float(np.median(each)) * 1e3 for side, each in found.items()}
    return Raced(model, *cell, round(middle[OURS], 3), round(middle[TIMMX], 3), round(float(median(ratios)), 3))


def prepare(models: list[str], out: Path) -> None:
    """Checkpoints under timm's names, and crops of scikit-learn's two photographs."""
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    (out / "photographs").mkdir(exist_ok=True)
    for model in models:
        file = out / "checkpoints" / f"{model}.safetensors"
        if not file.exists():
            export_checkpoint(random_checkpoint(model_spec(model), seed=0), "timm", file)
    chance = np.random.default_rng(0)
    for number in range(PHOTOGRAPHS):
        picture = decode_picture(photographs()[number % 2].read_bytes())
        left, top = (int(chance.integers(0, length - 300)) for length in picture.size)
        picture.crop((left, top, left + 300, top + 300)).save(out / "photographs" / f"{number}.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timmx", type=Path, required=True, help="timmx's command, in an environment of its own")
    parser.add_argument("--models", default=",".join(MODELS), help="only these, separated by commas")
    parser.add_argument("--cells", help="only these, such as tflite-fp32,onnx-fp32")
    parser.add_argument("--out", type=Path, default=Path("out/side-by-side"), help="folder of files and logs")
    parser.add_argument("--rounds", type=int, default=20, help="of ten inferences each")
    options = parser.parse_args()
    models = options.models.split(",")
    wanted = options.cells.split(",") if options.cells else ["-".join(cell) for cell in CELLS]
    prepare(models, options.out)
    number = 0
    for cell in [cell for cell in CELLS if "-".join(cell) in wanted]:
        for model in models:
            number += 1
            measure(model, cell, options, first=number % 2)
    write_side_by_side(read_record(RESULTS, Results))
    return 0


def measure(model: str, cell: tuple[str, str], options: argparse.Namespace, first: int) -> None:
    """What is missing of one cell, saved at once."""
    key = (model, *cell)
    results = read_record(RESULTS, Results) if RESULTS.exists() else Results()
    done = {each.side for each in results.converted if (each.model, each.format, each.precision) == key}
    for side in [side for side in ((OURS, TIMMX), (TIMMX, OURS))[first] if side not in done]:
        row = convert(side, options.timmx, model, cell, options.out)
        tell(f"{model} {'-'.join(cell)} {side}: {row}")
        results = read_record(RESULTS, Results) if RESULTS.exists() else Results()  # the other script writes, too
        results.converted.append(row)
        results.machine = describe_machine().describe()
        results.versions = versions()
        write_record(results, RESULTS)
    if any((each.model, each.format, each.precision) == key for each in results.raced):
        return
    if raced := race(model, cell, options.out, options.rounds):
        tell(f"{model} {'-'.join(cell)}: {raced}")
        results = read_record(RESULTS, Results)
        results.raced.append(raced)
        write_record(results, RESULTS)


def versions() -> dict[str, str]:
    names = ("torch", "timm", "coremltools", "executorch", "litert-torch", "ai-edge-litert", "onnx", "onnxruntime")
    return {name: importlib.metadata.version(name) for name in names}


if __name__ == "__main__":
    sys.exit(main())
