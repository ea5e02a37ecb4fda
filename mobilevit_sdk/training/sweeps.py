"""Trainings with different recipes, side by side on Ray Tune, on one machine or a cluster."""

from __future__ import annotations

import itertools
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mobilevit_sdk.errors import MobileViTError, RequestError, ToolchainError
from mobilevit_sdk.files import Address, replacing
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.training.metrics import QUALITIES, EpochResult
from mobilevit_sdk.training.progress import EpochDone
from mobilevit_sdk.training.search_space import Trial, Values, as_values, check_space, with_values
from mobilevit_sdk.training.sweep_chart import plot_sweep

MAX_TRIALS = 10_000


@dataclass(frozen=True)
class Sweep:
    """All trials, the best one first, and the recipe of that one."""

    trials: tuple[Trial, ...]
    recipe: Recipe
    path: Path  # of the recipe of the best
    epochs: int  # that a trial was to have

    @property
    def best(self) -> Trial:
        return self.trials[0]


def sweep(
    data: Address | Path | str,
    test_data: Address | Path | str | None,
    out: Path | str,
    space: Mapping[str, Values | Sequence[Any] | str],
    *,
    recipe: Recipe | None = None,
    draws: int = 1,
    seed: int = 0,
    early_stopping: bool = False,
    cpus: int = 1,
    gpus: float = 0,
    address: str | None = None,
    progress: Progress = silent,
    **training: Any,
) -> Sweep:
    """Train once for every combination of the values in `space`, and each of those for `draws` draws of its ranges.

    These are lists, or words as `parse_values` takes them, such as `log(1e-4, 1e-2)`, by the names of recipe fields.
    `data`, `test_data` and `training` are those of `train`, as paths and names, because trials run in processes of
    their own, each with `cpus` threads and `gpus` (a share of one, or several): as many at a time as there is room for.
    `address` is that of a Ray cluster, whose machines see the current folder, `data` and `out` under these names; by
    default Ray runs on this machine alone. With `early_stopping`, ASHA (arXiv 1810.05934) ends trials that are behind.

    The folder `out` receives `results.json`, `sweep.png`, `recipe.json` of the best trial, and each training in
    `trials/NUMBER`. Because a training resumes from its own folder, so does a sweep: the same call continues, and
    complete trials are not trained again. Raises RequestError for values that no recipe takes, when `out` holds another
    sweep, and when no trial finishes; ToolchainError without Ray.
    """
    recipe, out = recipe or Recipe(), Path(out).absolute()
    values_of = {name: as_values(given) for name, given in space.items()}
    check_space(recipe, values_of)
    trials = list(draw_trials(values_of, draws, seed))
    for values in trials:
        with_values(recipe, values)  # alone each value may be right
    _claim(out, recipe, trials)
    request = {"data": data, "test_data": test_data, **training}
    finished = _run(request, recipe, trials, out, early_stopping, (cpus, gpus), address, progress)
    ordered = tuple(sorted(finished, key=lambda trial: (-trial.deciding, trial.number)))
    _write(out / "results.json", [asdict(trial) for trial in ordered])
    if not ordered[0].quality:
        raise RequestError(f"no trial of {len(ordered)} finished an epoch; the first says: {ordered[0].problem}")
    best = with_values(recipe, ordered[0].values)
    _write(out / "recipe.json", msgspec.to_builtins(best))
    plot_sweep(ordered, values_of, out / "sweep.png", recipe.epochs)
    return Sweep(ordered, best, out / "recipe.json", recipe.epochs)


def draw_trials(space: Mapping[str, Values], draws: int, seed: int) -> Sequence[dict[str, Any]]:
    """The values of each trial: every combination of those that are listed, with `draws` draws of the others each."""
    listed = {name: each.values for name, each in space.items() if not each.drawn}
    drawn = {name: each for name, each in space.items() if each.drawn}
    combinations = math.prod(map(len, listed.values()))
    count = combinations * (draws if drawn else 1)
    if not space or count > MAX_TRIALS:
        raise RequestError(f"a sweep has 1 to {MAX_TRIALS:,} trials; this one would have {count if space else 0:,}")
    random = np.random.default_rng(seed)
    return [
        {**dict(zip(listed, values, strict=True)), **{name: _draw(each, random) for name, each in drawn.items()}}
        for values in itertools.product(*listed.values())
        for _ in range(draws if drawn else 1)
    ]


def _draw(values: Values, random: np.random.Generator) -> float | int:
    low, high = values.values
    if values.kind == "int":
        return int(random.integers(low, high + 1))
    if values.kind == "log":
        return float(f"{math.exp(random.uniform(math.log(low), math.log(high))):.4g}")
    return float(f"{random.uniform(low, high):.4g}")


def _claim(out: Path, recipe: Recipe, trials: list[dict[str, Any]]) -> None:
    """Say whose folder this is. Raises RequestError where another sweep's is."""
    mine = {"recipe": msgspec.to_builtins(recipe), "trials": trials}
    path = out / "sweep.json"
    if path.exists():
        try:
            theirs = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise RequestError(f"{path} is damaged; give another `out`") from error
        if theirs != json.loads(json.dumps(mine)):
            raise RequestError(f"{out} holds another sweep, of other values or another recipe; give another `out`")
        return
    if out.exists() and any(out.iterdir()):
        raise RequestError(f"{out} is not empty and holds no sweep; give another `out`")
    _write(path, mine)


def _run(
    request: dict[str, Any],
    recipe: Recipe,
    trials: list[dict[str, Any]],
    out: Path,
    early_stopping: bool,
    resources: tuple[int, float],
    address: str | None,
    progress: Progress,
) -> list[Trial]:
    # No report to its makers, no boxes around words, and trials that get their share of a busy machine.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0", "RAY_worker_niceness": "0"}
    try:
        import ray
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler
    except ImportError as error:
        raise ToolchainError("a sweep runs on Ray: pip install 'mobilevit-sdk[ray]'") from error

    class Tell(tune.Callback):  # type: ignore[misc]
        """Forwards what the trials report."""

        done = 0

        def __reduce__(self) -> tuple[Any, ...]:
            return tune.Callback, ()  # Ray keeps a pickle of everything, and a display has none

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            said = f"trial {trial.config['trial']}, epoch {result['epoch']}: {result['deciding']:.2%}"
            progress(Step("trials", self.done, len(trials), detail=said))

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self.done += 1
            progress(Step("trials", self.done, len(trials)))

    here = Path.cwd()

    def run(config: dict[str, Any]) -> None:
        os.chdir(here)  # Ray's trials have folders of their own, and paths may be relative
        run_trial(request, recipe, trials, out, config["trial"], resources[0], tune.report)

    progress(Step("starting Ray"))
    alone: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}  # nobody else may connect
    ray.init(address, log_to_driver=False, logging_level="ERROR", **({} if address else alone))
    scheduler = ASHAScheduler("epoch", "deciding", "max", max_t=recipe.epochs, grace_period=max(1, recipe.epochs // 8))
    try:
        # Ray's own records, which it would read back as pickles, are of no use: the trainings keep theirs.
        with tempfile.TemporaryDirectory(dir=out if address else None) as scratch:
            found = tune.Tuner(
                tune.with_resources(run, {"cpu": resources[0], "gpu": resources[1]}),
                param_space={"trial": tune.grid_search(list(range(len(trials))))},
                tune_config=tune.TuneConfig(scheduler=scheduler if early_stopping else None),
                run_config=tune.RunConfig(storage_path=scratch, verbose=0, callbacks=[Tell()]),
            ).fit()
    finally:
        ray.shutdown()
    ended = {result.config["trial"]: result for result in found if result.config}
    return [_trial(number, values, ended.get(number)) for number, values in enumerate(trials)]


def _trial(number: int, values: dict[str, Any], result: Any) -> Trial:
    measured = (result.metrics or {}) if result else {}
    quality = {name: measured[name] for name in QUALITIES if name in measured}
    problem = measured.get("problem", "")
    if not quality and not problem:
        problem = str(result.error).strip().splitlines()[-1] if result and result.error else "it was not run"
    return Trial(number, values, measured.get("epoch", 0), quality, problem)


def run_trial(
    request: dict[str, Any],
    recipe: Recipe,
    trials: list[dict[str, Any]],
    out: Path,
    number: int,
    threads: int,
    report: Any,
) -> None:
    """Train one, or go on with it, in a process of Ray's, and `report` each epoch, those of earlier runs too."""
    import torch

    from mobilevit_sdk.training.metrics import read_metrics
    from mobilevit_sdk.training.run import train

    torch.set_num_threads(threads)
    folder = out / "trials" / f"{number:04}"

    def tell(row: EpochResult) -> None:
        report({"epoch": row.epoch, "deciding": row.deciding, "loss": row.loss, **row.shares})

    def progress(step: Step) -> None:
        if isinstance(step, EpochDone):
            tell(step.result)

    try:
        for row in read_metrics(folder / "metrics.jsonl", recipe.epochs):
            tell(row)
        train(**request, out=folder, recipe=with_values(recipe, trials[number]), progress=progress)
    except MobileViTError as error:  # a result like others: a learning rate may be too high
        report({"epoch": 0, "deciding": -1.0, "problem": str(error)})


def _write(path: Path, value: Any) -> None:
    with replacing(path) as fresh:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(value)))
