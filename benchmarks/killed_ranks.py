"""Kill one of several training processes at random moments, again and again, and compare the weights at the end.

    python benchmarks/killed_ranks.py --kills 20 --processes 2

A small MobileViT learns 46 pictures under torchrun, once undisturbed and once with `kill -9` of a random process after
a random time, resumed by the same command each time until it ends. Its state is saved after every step, so that
a kill can fall into the writing of a file as well as into an exchange. Prints what each kill met; exit code 1 where the
final weights differ by a bit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from labeled_images import pictures, write_parquet
from several_processes import command_of

CASE = "mobilevit-long"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_parquet(root / "a.parquet", pictures(46))
        start(given.processes, data, root / "whole").wait()
        kills = 0
        while kills < given.kills:
            kills += 1
            done = killed_once(given.processes, data, root / "killed")
            print(f"kill {kills}: {done}", flush=True)
        while (last := start(given.processes, data, root / "killed")).wait() != 0:
            print(f"it ended with {last.returncode} and is started again", flush=True)
        whole, killed = (weights(root / name / CASE) for name in ("whole", "killed"))
    equal = whole.keys() == killed.keys() and all(torch.equal(value, killed[name]) for name, value in whole.items())
    print(f"{kills} kills of {given.processes} processes: the final weights are {'equal' if equal else 'DIFFERENT'}")
    return 0 if equal else 1


def killed_once(processes: int, data: Path, out: Path) -> str:
    """Train until a process is killed; what was done by then, and how long the others lived."""
    launcher = start(processes, data, out)
    deadline = time.monotonic() + 120
    while len(ranks := ranks_of(launcher.pid)) < processes and time.monotonic() < deadline:
        time.sleep(0.05)
    before = state_of(out)
    early = random.random() < 0.2  # some kills come while the processes start
    while not early and state_of(out) == before and launcher.poll() is None:
        time.sleep(0.05)
    time.sleep(random.uniform(0, 3))
    rank = random.choice(sorted(ranks))
    if launcher.poll() is not None:
        return "the training was complete"
    os.kill(ranks[rank], signal.SIGKILL)
    killed = time.monotonic()
    launcher.wait()
    position = torch.load(out / CASE / "state.pt", weights_only=True)["position"] if state_of(out) else None
    return f"rank {rank}; all had ended {time.monotonic() - killed:.1f} s later, with the state {position}"


def start(processes: int, data: Path, out: Path) -> subprocess.Popen[bytes]:
    command, environment = command_of(processes, data, out, CASE)
    environment["KILL"] = "none:0"  # saves the state after every step
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def ranks_of(launcher: int) -> dict[int, int]:
    """The training processes that a launcher has started, by rank."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher:
                variables = (entry / "environ").read_bytes().split(b"\0")
                found[next(int(each[5:]) for each in variables if each.startswith(b"RANK="))] = int(entry.name)
        except (OSError, ValueError, StopIteration):
            continue
    return found


def state_of(out: Path) -> int | None:
    """Changes whenever the state is saved."""
    path = out / CASE / "state.pt"
    return path.stat().st_mtime_ns if path.exists() else None


def weights(out: Path) -> dict[str, torch.Tensor]:
    state = torch.load(out / "state.pt", weights_only=True)
    return {f"{part}.{name}": value for part in ("model", "average") for name, value in state[part].items()}


if __name__ == "__main__":
    sys.exit(main())
