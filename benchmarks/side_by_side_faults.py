"""Plant twenty faults into a conversion, for mobilevit-sdk and for timmx alike, and note what their commands say.

    python benchmarks/side_by_side_faults.py --timmx ../timmx-venv/bin/timmx

The network is the trained one that ships, under timm's names, as an ONNX file in float32. Sixteen faults sit in
`torch.onnx.export`, which both sides call (side_by_side_plant.py), two in what both are given, two in the file
afterwards. Each side runs the command that its documentation begins with, with its checks on. Results go to
docs/measured/timmx.json, so an interrupted run resumes; then the page is written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from shared import read_record, tell, write_record
from side_by_side_page import OURS, RESULTS, TIMMX, Planted, Results, write_side_by_side
from side_by_side_plant import FAULT, FAULTS, MARK

from mobilevit_sdk import load_checkpoint
from mobilevit_sdk.checkpoints.export import export_checkpoint
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.parity.metrics import sqnr_db

MODEL, CLASSES, SIDE = "mobilevit_xxs", 10, 64
BEFORE = ("a weight is NaN", "labels in another order")
AFTER = ("the file truncated", "the file of another network")
ALL = ("none", *[name for name in FAULTS if name != "none"], *BEFORE, *AFTER)


def command(side: str, timmx: Path, checkpoint: Path, out: Path, labels: Path) -> list[str]:
    """What a user types."""
    if side == TIMMX:
        what = ["export", "onnx", MODEL, "--num-classes", CLASSES, "--input-size", 3, SIDE, SIDE, "--normalize"]
        words = [timmx, *what, "--checkpoint", checkpoint, "--output", out / "file.onnx"]
    else:
        words = [Path(sys.executable).with_name("mobilevit"), "convert", checkpoint, "--to", "onnx", "--out", out]
        words += ["--image-size", SIDE, "--labels", labels, "--force"]
    return [str(word) for word in words]


def run(words: Sequence[str], fault: str, out: Path) -> tuple[int, str]:
    """Exit code and the last line that says something."""
    mark, hook = out / "planted", out.parent / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text("import side_by_side_plant\n", "utf-8")
    environment = dict(os.environ)
    if fault in FAULTS:
        path = os.pathsep.join([str(hook.resolve()), str(Path(__file__).parent.resolve())])
        environment |= {FAULT: fault, MARK: str(mark.resolve()), "PYTHONPATH": path}
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (out / "log.txt").write_text(done.stdout, "utf-8")
    if fault in FAULTS and not mark.exists():
        raise LookupError(f"not planted: see {out / 'log.txt'}")
    return done.returncode, summary(done.stdout)


def summary(log: str) -> str:
    """The line with the verdict."""
    lines = [" ".join(line.split()) for line in log.splitlines()]
    telling = ("verify:", "error:", "Error:", "passed ", "failed ", "FAILED", "rejected")
    found = [line for line in lines if line.startswith(telling)]
    return (found[-1] if found else next((line for line in reversed(lines) if line), ""))[:160]


@cache
def reference(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    """Photographs in [0, 1], and timm's own answers."""
    import timm
    import torch

    model = timm.create_model(MODEL, num_classes=CLASSES, checkpoint_path=str(checkpoint)).eval()
    cases = [case for case in builtin_cases(load_checkpoint().spec.preprocessing) if case.role == "view"]
    pixels = np.stack([case.image for case in cases]).astype(np.float32) / 255
    with torch.no_grad():
        return pixels, model(torch.from_numpy(pixels)).numpy()


def effect_db(file: Path | None, checkpoint: Path) -> float | None:
    """How far the file's answers are from timm's: the worst photograph."""
    import onnxruntime

    if file is None:
        return None
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception:  # a file that does not load has no answers
        return None
    (given,) = session.get_inputs()
    pixels, expected = reference(checkpoint)
    found = [session.run(None, {given.name: each[None]})[0][0] for each in pixels]
    return round(min(sqnr_db(one, other) for one, other in zip(expected, found, strict=True)), 1)


def file_in(folder: Path) -> Path | None:
    return next(folder.rglob("*.onnx"), None)


def after(fault: str, healthy: Path, wrong: Path, out: Path) -> tuple[int, str]:
    """Our gate on an artifact whose file was damaged or exchanged."""
    shutil.copytree(healthy, out, dirs_exist_ok=True)
    file = file_in(out)
    other = file_in(wrong)
    assert file is not None
    assert other is not None
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if fault == AFTER[0] else other.read_bytes())
    return run([str(Path(sys.executable).with_name("mobilevit")), "verify", str(file.parent)], fault, out)


def given_checkpoints(out: Path) -> tuple[Path, Path]:
    """The trained network under timm's names, and the same with one weight that is not a number."""
    import torch
    from safetensors.torch import load_file, save_file

    healthy, damaged = out / "trained.safetensors", out / "nan.safetensors"
    if not damaged.exists():
        export_checkpoint(None, "timm", healthy)
        weights = load_file(healthy)
        name = next(name for name, value in weights.items() if value.dim() == 4)
        weights[name].view(-1)[0] = torch.nan
        save_file(weights, damaged)
    return healthy, damaged


def plant(fault: str, side: str, timmx: Path, out: Path, healthy: Path, damaged: Path) -> Planted:
    """Raises LookupError where the network has no place for the fault."""
    folder = out / f"{fault.replace(' ', '-')}-{side}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    code, says = None, ""
    if fault not in AFTER:
        checkpoint = damaged if fault == BEFORE[0] else healthy
        labels = out / ("other.txt" if fault == BEFORE[1] else "labels.txt")
        code, says = run(command(side, timmx, checkpoint, folder, labels), fault, folder)
    elif side == OURS:
        code, says = after(fault, out / f"none-{OURS}", out / f"a-weight-transposed-{OURS}", folder)
    return Planted(fault, side, code, says, effect_db(file_in(folder), healthy))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timmx", type=Path, required=True, help="timmx's command, in an environment of its own")
    parser.add_argument("--out", type=Path, default=Path("out/side-by-side/faults"), help="folder of files and logs")
    parser.add_argument("--only", help="these faults, separated by commas")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = read_record(RESULTS, Results) if RESULTS.exists() else Results()
    healthy, damaged = given_checkpoints(options.out)
    names = load_checkpoint().spec.labels or ()
    for name, order in (("labels.txt", names), ("other.txt", names[::-1])):
        (options.out / name).write_text("\n".join(order) + "\n", "utf-8")
    for fault in options.only.split(",") if options.only else ALL:
        for side in (TIMMX, OURS):
            if any((each.fault, each.side) == (fault, side) for each in results.planted):
                continue
            try:
                row = plant(fault, side, options.timmx, options.out, healthy, damaged)
            except LookupError as error:
                tell(f"{fault}, {side}: {error}")
                continue
            tell(str(row))
            results = read_record(RESULTS, Results) if RESULTS.exists() else results  # the other script writes, too
            results.planted.append(row)
            write_record(results, RESULTS)
    write_side_by_side(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
