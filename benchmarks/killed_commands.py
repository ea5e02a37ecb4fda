"""Kill convert, train, prune, quantize and label at random moments, run them again, and compare with undisturbed runs.

    python benchmarks/killed_commands.py --kills 100

Each command works once undisturbed. Then it is started in another folder and ended by `kill -9` after a random time,
and again in the same folder until it ends by itself. A quarter of the kills come at any time, the others once the
command has written something (quantize does at its end), so that not most of them meet a Python that is starting.
After each kill every file under its final name must be whole; in the end, weights and artifacts must be those of the
undisturbed run, to the bit, and nothing else may lie there. Eight conversions at once into one folder come first.
Results are appended to `--out`, so that an interrupted run resumes. Writes docs/measured/killed-commands.md; exit code
1 where a bar was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from killed_commands_page import Crowd, Kill, Round, page
from shared import MEASURED, append_to_log, read_log, tell, write_page
from small_networks import small_specs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

COMMANDS = ("convert", "train", "prune", "quantize", "label")
_AT_THE_END = ("quantize",)  # write everything at once, when all is done
IMAGES = 104
# Of a manifest: what depends on the machine's moment.
_OF_THE_RUN = ("seconds", "peak_memory_bytes")


def main() -> int:
    """Kill what is missing, then write the page; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of all commands together")
    parser.add_argument("--crowd", type=int, default=8, help="conversions at once into one folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/killed-commands"), help="folder of what is measured")
    parser.add_argument("--page", type=Path, default=MEASURED / "killed-commands.md", help="the page to write")
    parser.add_argument("--only-page", action="store_true", help="of what was measured so far")
    options = parser.parse_args()
    root = options.out.resolve()
    root.mkdir(parents=True, exist_ok=True)
    if not options.only_page:
        _prepare(root)
        for name in COMMANDS:
            _undisturbed(root, name)
        if not (root / "crowd.jsonl").exists():
            append_to_log(_crowd(root, options.crowd), root / "crowd.jsonl")
        with ThreadPoolExecutor(len(COMMANDS)) as pool:  # side by side: most of their time goes into starting Python
            list(pool.map(lambda name: _kill_often(root, name, options.kills // len(COMMANDS), options.seed), COMMANDS))
    rounds = [found for name in COMMANDS for found in read_log(root / f"{name}.jsonl", Round)]
    crowds = read_log(root / "crowd.jsonl", Crowd)
    write_page(page(rounds, crowds), options.page)
    return 1 if any(each.problems for each in (*rounds, *crowds)) else 0


def _kill_often(root: Path, name: str, kills: int, seed: int) -> None:
    log = root / f"{name}.jsonl"
    while (done := sum(len(each.kills) for each in read_log(log, Round))) < kills:
        chance = random.Random(f"{seed}-{name}-{done}")
        found = _round(root, name, chance, kills - done)
        append_to_log(found, log)
        tell(f"{name}: {done + len(found.kills)} of {kills}, {found.problems or 'as undisturbed'}")


def _prepare(root: Path) -> None:
    from labeled_images import pictures, write_parquet

    from mobilevit_sdk import save_checkpoint
    from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint

    if not (root / "small.safetensors").exists():
        spec = small_specs()["mobilevit"]
        spec = msgspec.structs.replace(spec, config={**spec.config, "num_classes": 5})
        made = random_checkpoint(spec, 0)
        write_parquet(root / "images.parquet", pictures(IMAGES))
        save_checkpoint(made.model, made.spec, root / "small.safetensors")


def command_line(root: Path, name: str, out: Path) -> list[str]:
    """A small run of a command into `out`."""
    small, images = str(root / "small.safetensors"), str(root / "images.parquet")
    few = ["--threads", "1"]
    tuned = ["--test-data", images, "--finetune", "1", "--no-bench", "--steps", "2", *few]
    options = {
        "convert": [small, "--to", "onnx", "--no-verify"],
        "train": ["--checkpoint", small, "--data", images, "--test-share", "0.2", "--epochs", "3", *few],
        "prune": [small, "--macs", "0.7", "--data", images, "--samples", "16", "--multiple", "2", *tuned],
        "quantize": [small, "--calibration", images],
        "label": ["--data", images, "--teacher", small, "--epochs", "6", "--top-k", "3", "--batch-size", "8", *few],
    }
    return [sys.executable, "-m", "mobilevit_sdk", name, *options[name], "--out", str(out), "--json"]


def _start(root: Path, name: str, out: Path) -> subprocess.Popen[bytes]:
    log = (root / f"{out.name}.log").open("ab")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command_line(root, name, out), stdout=subprocess.DEVNULL, stderr=log, env=environment)


def _undisturbed(root: Path, name: str) -> float:
    """The seconds of the run that others are compared with; it is done once."""
    took = root / f"{name}.seconds"
    if not took.exists():
        shutil.rmtree(root / f"{name}-whole", ignore_errors=True)
        began = time.monotonic()
        if code := _start(root, name, root / f"{name}-whole").wait():
            raise SystemExit(f"{name} ends with {code} undisturbed; see {root / f'{name}-whole.log'}")
        took.write_text(f"{time.monotonic() - began:.2f}")
        tell(f"{name} takes {took.read_text()} s")
    return float(took.read_text())


def _round(root: Path, name: str, chance: random.Random, most: int) -> Round:
    """Kill a command until it ends by itself, but not more than `most` times."""
    out, longest = root / f"{name}-killed", 1.1 * _undisturbed(root, name)
    shutil.rmtree(out, ignore_errors=True)
    kills: list[Kill] = []
    problems: list[str] = []
    code: int | None = None
    while code is None and len(kills) < most:
        began, before = time.monotonic(), _changed(out)
        process = _start(root, name, out)
        early = chance.random() < (1.0 if name in _AT_THE_END else 0.25)
        while not early and process.poll() is None and _changed(out) == before:
            time.sleep(0.02)
        try:
            code = process.wait(chance.uniform(0, longest if early else longest / 3))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            whole, halves = check_files(out)
            kills.append(Kill(round(time.monotonic() - began, 2), whole))
            problems += halves
    if code is None:
        code = _start(root, name, out).wait()
    if code:
        problems.append(f"it ends with {code}")
    _, halves = check_files(out)
    problems += halves + differences(root / f"{name}-whole", out)
    return Round(name, tuple(kills), tuple(problems))


def _changed(out: Path) -> int:
    """Another number whenever something was written."""
    try:
        return max((file.stat().st_mtime_ns for file in (out, *out.rglob("*"))), default=0)
    except OSError:  # none yet, or one that was renamed meanwhile
        return 0


def _crowd(root: Path, processes: int) -> Crowd:
    """Conversions of one checkpoint at once into one folder."""
    out = root / "convert-crowd"
    shutil.rmtree(out, ignore_errors=True)
    began = time.monotonic()
    codes = [each.wait() for each in [_start(root, "convert", out) for _ in range(processes)]]
    seconds = time.monotonic() - began
    problems = [f"one ends with {code}" for code in codes if code]
    problems += check_files(out)[1] + differences(root / "convert-whole", out)
    return Crowd(processes, round(seconds, 1), tuple(problems))


def check_files(out: Path) -> tuple[int, list[str]]:
    """How many files stand under their final names, and which of them are not whole."""
    whole, halves = 0, []
    for file in sorted(out.rglob("*")):
        if file.is_file() and not _is_work(file, out):
            try:
                _read(file)
                whole += 1
            except Exception as error:
                halves.append(f"{file.relative_to(out)} is not whole: {type(error).__name__}: {error}"[:200])
    return whole, halves


def _is_work(file: Path, out: Path) -> bool:
    """In a folder of work that goes on or was given up, which no reader takes for a result."""
    return any(part.startswith(".") for part in file.relative_to(out).parts)


def _read(file: Path) -> None:
    """Raises anything for a file that is cut off or is not what its name says."""
    import torch
    from PIL import Image
    from safetensors import safe_open

    from mobilevit_sdk.artifacts.artifact import MANIFEST, open_artifact

    if file.name == MANIFEST and "labels" not in file.parent.name and (file.parent / "reference.safetensors").exists():
        artifact = open_artifact(file.parent)
        artifact.require_unchanged()
        artifact.reference()
    elif file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            opened.get_tensors()
    elif file.suffix == ".pt":
        torch.load(file, weights_only=True)
    elif file.suffix == ".png":
        Image.open(file).load()
    elif file.suffix in (".json", ".jsonl"):
        for text in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
            json.loads(text)
    elif file.name.endswith("-keys.txt"):
        values = file.with_name(file.name.replace("-keys.txt", "-values.bin"))
        assert values.stat().st_size == 16 * len(file.read_text().splitlines())  # 4 + 4 K bytes each


def differences(whole: Path, other: Path) -> list[str]:
    """Names that only one of the folders has, and files whose content differs, but for times."""
    theirs, ours = (
        {str(file.relative_to(each)) for each in [folder] for file in folder.rglob("*") if file.is_file()}
        for folder in (whole, other)
    )
    found = [f"{name} is in only one of both" for name in sorted(theirs ^ ours)]
    for name in sorted(theirs & ours):
        if _content(whole / name) != _content(other / name):
            found.append(f"{name} differs")
    return found


def _content(file: Path) -> Any:
    """What must be equal: weights by name and value, JSON without times, any other file to the byte."""
    import torch

    if file.suffix == ".pt":
        state = torch.load(file, weights_only=True)
        parts = {f"{part}.{name}": value for part in ("model", "average") for name, value in state[part].items()}
        return {name: value.numpy().tobytes() for name, value in parts.items()}
    if file.suffix == ".png":
        return None  # curves show seconds
    if file.suffix in (".json", ".jsonl"):
        lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
        return [_timeless(json.loads(line)) for line in lines]
    if file.suffix == ".safetensors" and file.name != "reference.safetensors":
        from safetensors import safe_open

        with safe_open(file, "np") as opened:
            return {name: array.tobytes() for name, array in opened.get_tensors().items()}
    return file.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if key not in _TIMES}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


_TIMES = {*_OF_THE_RUN, "images_per_second", "time"}


if __name__ == "__main__":
    sys.exit(main())
