"""How long a checkpoint takes to load, and how much memory, next to PyTorch or safetensors alone.

    python benchmarks/load_checkpoint.py [CHECKPOINT] [--rounds N] [--json]

CHECKPOINT is a .pth or .safetensors of any release; without it, TinyViT-21M with random weights is written in timm's
layout, once in each format. Every measurement has a process of its own, whose imports are done and whose file is in the
system's cache; the loaders take turns, so that what disturbs one disturbs all. Time is the median, memory the largest.

"alone" leaves the weights in memory as they are in the file: torch.load, and load_file of safetensors told to
read (backend "pread"). By default load_file maps the file and reads nothing until a tensor is used: that is "mapped".
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from process_memory import forget_peak, peak

MODEL = "tiny_vit_21m_224"


def load(loader: str, path: Path) -> dict[str, float]:
    """In a process of its own: seconds, and bytes that the process grew by at its largest."""
    import safetensors.torch
    import torch

    from mobilevit_sdk.checkpoints.load import load_checkpoint

    loaders: dict[str, Any] = {
        "mobilevit_sdk": lambda: load_checkpoint(path),
        "alone": lambda: torch.load(path, weights_only=True),
        "mapped": lambda: safetensors.torch.load_file(path),
    }
    if path.suffix == ".safetensors":
        loaders["alone"] = lambda: safetensors.torch.load_file(path, backend="pread")
    before = forget_peak()
    started = time.perf_counter()
    loaded = loaders[loader]()
    seconds = time.perf_counter() - started
    grown = peak() - before
    assert loaded is not None
    return {"seconds": seconds, "bytes": grown}


def measure(path: Path, rounds: int) -> dict[str, Any]:
    """The loaders in turn, `rounds` times each."""
    path.read_bytes()  # into the system's cache
    loaders = ["alone", "mobilevit_sdk"] + (["mapped"] if path.suffix == ".safetensors" else [])
    results: dict[str, list[dict[str, float]]] = {loader: [] for loader in loaders}
    for _ in range(rounds):
        for loader in loaders:
            command = [sys.executable, __file__, str(path), "--loader", loader]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results[loader].append(json.loads(done.stdout))
    size = path.stat().st_size
    seconds = {loader: statistics.median(each["seconds"] for each in runs) for loader, runs in results.items()}
    memory = {loader: max(each["bytes"] for each in runs) for loader, runs in results.items()}
    return {
        "file": path.name,
        "bytes": size,
        "rounds": rounds,
        "seconds": seconds,
        "time_ratio": seconds["mobilevit_sdk"] / seconds["alone"],
        "peak_bytes": memory,
        "memory_ratio": memory["mobilevit_sdk"] / size,
    }


def write_examples(folder: Path) -> list[Path]:
    """TinyViT-21M with random weights, in timm's layout."""
    from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
    from mobilevit_sdk.checkpoints.export import export_checkpoint
    from mobilevit_sdk.models.random_weights import randomize
    from mobilevit_sdk.models.registry import build_model, model_spec

    spec = model_spec(MODEL)
    checkpoint = Checkpoint(randomize(build_model(spec), 0), spec, layout="random weights", source=MODEL)
    return [
        export_checkpoint(checkpoint, "timm", folder / f"{MODEL}{suffix}").path for suffix in (".pth", ".safetensors")
    ]


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loader", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loader:
        print(json.dumps(load(arguments.loader, arguments.checkpoint)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        paths = [arguments.checkpoint] if arguments.checkpoint else write_examples(Path(scratch))
        results = [measure(path, arguments.rounds) for path in paths]
    if arguments.json:
        print(json.dumps({"results": results}, indent=2))
        return
    for result in results:
        print(f"{result['file']}, {result['bytes'] / 1e6:.1f} MB")
        for loader, seconds in result["seconds"].items():
            print(f"  {loader:14} {seconds * 1e3:7.1f} ms {result['peak_bytes'][loader] / 1e6:8.1f} MB")
        print(f"  {result['time_ratio']:.2f}x the time of the format alone, {result['memory_ratio']:.2f}x the file")


if __name__ == "__main__":
    main()
