"""Small trainings of all that is random, in float64, by one process or by those that torchrun starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import torch
from helpers import REPOSITORY, randomize, tiny_spec
from tiny_networks import tiny_model
from tiny_networks import tiny_spec as spec_of_family

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.training import Distillation, HiddenLayer, QuantizationAware, Recipe, Trainer, open_labels, trainer
from mobilevit_sdk.training.world import connected

# 45 images in batches of 9, or of 14 at 32 pixels: neither 2 nor 3 divides them all, and some are odd.
RECIPE = Recipe(
    epochs=2,
    batch_size=9,
    sizes=(32, 40),
    size_ramp=0.3,
    warmup_epochs=0.5,
    mix_probability=0.8,
    learning_rate=5e-3,
    model={"stochastic_depth": 0.3},
)
VIT = msgspec.structs.replace(RECIPE, sizes=())
PARTS = msgspec.structs.replace(VIT, accumulation=2, batch_size=15)
QAT = msgspec.structs.replace(VIT, model={}, quantization_aware=QuantizationAware())
TAUGHT = Distillation(kind="hard", until=0.6, hidden=(HiddenLayer(student="blocks.0", teacher="stages.0"),))
CASES: dict[str, tuple[ModelSpec, Recipe]] = {
    "mobilevit": (tiny_spec(image_size=40), RECIPE),
    "mobilevit-parts": (tiny_spec(image_size=40), PARTS),
    "mobilevit-long": (tiny_spec(image_size=40), msgspec.structs.replace(RECIPE, epochs=40)),
    "vit": (spec_of_family("vit"), VIT),
    "vit-parts": (spec_of_family("vit"), PARTS),
    "mobilevit-qat": (tiny_spec(image_size=40), QAT),
    "mobilevit-labels": (tiny_spec(image_size=40), msgspec.structs.replace(VIT, mix_probability=0.0)),
    "dearkd": (spec_of_family("dearkd"), msgspec.structs.replace(VIT, distillation=TAUGHT)),
    "vit-whole": (spec_of_family("vit"), msgspec.structs.replace(PARTS, accumulation=1)),
}


def make_trainer(case: str, data: Path | str, out: Path, progress: Progress = silent) -> Trainer:
    """In float64, in which rounding is far below what a wrong gradient or mean would change."""
    torch.set_num_threads(1)
    spec, recipe = CASES[case]
    spec = msgspec.structs.replace(spec, config={**spec.config, **recipe.model})
    network = randomize(build_model(spec), 1).double()
    network.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    dataset, device = open_dataset(data, labeled=True), torch.device("cpu")
    teacher = labels = None
    if case == "mobilevit-labels":  # stored beside the folders of one and of several processes
        labels = open_labels(out.parent.parent / "labels")
    if recipe.distillation:
        teacher = Checkpoint(*tiny_model("mobilevit", 32), "own", "teacher.safetensors")
    return Trainer(
        network, spec, recipe, dataset, dataset, out, device=device, teacher=teacher, labels=labels, progress=progress
    )


def command_of(processes: int, data: Path | str, out: Path, *cases: str) -> tuple[list[str], dict[str, str]]:
    """What trains these cases under torchrun, in folders of `out`, and its environment."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    folders = os.pathsep.join([str(REPOSITORY / "tests" / "support"), str(REPOSITORY)])
    return [*launcher, __file__, str(data), str(out), *cases], {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": folders,
    }


def torchrun(
    processes: int, data: Path | str, out: Path, *cases: str, kill: tuple[int, int] | None = None
) -> subprocess.CompletedProcess[str]:
    """Train these cases in folders of `out`; `kill` is a rank that dies without warning, and in which step, from 1."""
    command, environment = command_of(processes, data, out, *cases)
    environment["KILL"] = "{}:{}".format(*kill) if kill else ""
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, env=environment)


def _die_as_asked() -> None:
    """End this process in the step that KILL names, if it is meant; the state is saved after every step."""
    rank, _, last = os.environ.get("KILL", "").partition(":")
    if not last:
        return
    trainer.SAVE_EVERY_SECONDS = -1.0
    steps = 0
    take_step = Trainer._train_step

    def counted(*arguments: object) -> float:
        nonlocal steps
        steps += 1
        if steps == int(last) and os.environ["RANK"] == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step(*arguments)  # type: ignore[arg-type]

    Trainer._train_step = counted  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    _die_as_asked()
    with connected():
        for case in sys.argv[3:]:
            make_trainer(case, sys.argv[1], Path(sys.argv[2]) / case).run()
