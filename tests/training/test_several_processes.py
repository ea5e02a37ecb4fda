"""Trainings in several processes: the same result as in one, and resumed after one of them was killed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import randomize, sampled
from labeled_images import pictures, write_parquet
from several_processes import CASES, make_trainer, torchrun
from torch import Tensor

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import StochasticDepth
from mobilevit_sdk.layers.stochastic_depth import drawing_samples
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.tasks.task import for_each
from mobilevit_sdk.training import store_labels
from mobilevit_sdk.training.schedule import plan_epoch, share_of
from mobilevit_sdk.training.world import check_batches

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDING = 1e-6  # of float64, but that losses are computed in float32; a wrong share or mean changes the third digit


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(46))


def _weights(out: Path) -> dict[str, Tensor]:
    """Those of the network and of the average, and of aligners of hidden layers, where there are any."""
    state = torch.load(out / "state.pt", weights_only=True)
    parts = ("model", "average", "hidden")
    return {f"{part}.{name}": value for part in parts for name, value in state.get(part, {}).items()}


def _qualities(out: Path) -> list[tuple[float, float]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(row["top1"], row["top5"]) for row in rows]


def _losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("processes", "cases"),
    [
        pytest.param(2, ("mobilevit", "vit", "dearkd", "mobilevit-labels"), id="2 processes"),
        pytest.param(3, ("mobilevit", "vit", "mobilevit-qat"), id="3 processes", marks=pytest.mark.slow),
        pytest.param(2, ("mobilevit-parts", "vit-parts"), id="2 processes and 2 parts", marks=pytest.mark.slow),
    ],
)
def test_several_processes_train_what_one_does(
    data: Path, tmp_path: Path, processes: int, cases: tuple[str, ...]
) -> None:
    if "mobilevit-labels" in cases:
        spec, recipe = CASES["mobilevit-labels"]
        teacher = Checkpoint(randomize(build_model(spec), 3), spec, "own", "teacher.safetensors")
        store_labels(data, teacher, tmp_path / "labels", epochs=recipe.epochs, top_k=3, recipe=recipe)
    done = torchrun(processes, data, tmp_path / "several", *cases)
    assert done.returncode == 0, done.stderr
    for case in cases:
        make_trainer(case, data, tmp_path / "one" / case).run()
        one, several = (_weights(tmp_path / name / case) for name in ("one", "several"))
        assert one.keys() == several.keys()
        for name, value in one.items():
            torch.testing.assert_close(several[name], value, rtol=ROUNDING, atol=ROUNDING, msg=name)
        assert _losses(tmp_path / "several" / case) == pytest.approx(_losses(tmp_path / "one" / case), rel=ROUNDING)
        assert _qualities(tmp_path / "several" / case) == _qualities(tmp_path / "one" / case)


def test_parts_of_a_step_add_up_to_the_step(data: Path, tmp_path: Path) -> None:
    """Where no BatchNorm sees the parts."""
    for case in ("vit-parts", "vit-whole"):
        make_trainer(case, data, tmp_path / case).run()
    parts, whole = (_weights(tmp_path / case) for case in ("vit-parts", "vit-whole"))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=ROUNDING, atol=ROUNDING, msg=name)


@pytest.mark.parametrize("end", sampled([(2, 1, 3), (3, 0, 6)], (2, 1, 3)))
@pytest.mark.slow
def test_a_killed_process_ends_the_training_which_then_resumes_to_the_bit(
    data: Path, tmp_path: Path, end: tuple[int, int, int]
) -> None:
    processes, rank, step = end
    killed = torchrun(processes, data, tmp_path / "killed", "mobilevit", kill=(rank, step))
    assert killed.returncode != 0
    assert "SIGKILL" in killed.stderr
    assert f"rank {rank} (process " in killed.stderr or f"rank      : {rank} " in killed.stderr
    done = torch.load(tmp_path / "killed" / "mobilevit" / "state.pt", weights_only=True)["position"][2]
    assert 0 < done < step, "the kill was meant to come after a step"
    for out in ("killed", "whole"):
        assert torchrun(processes, data, tmp_path / out, "mobilevit").returncode == 0
    resumed, whole = (_weights(tmp_path / out / "mobilevit") for out in ("killed", "whole"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.slow
def test_a_training_of_two_processes_goes_on_in_one_as_if_it_had_been_one(data: Path, tmp_path: Path) -> None:
    killed = torchrun(2, data, tmp_path / "killed", "mobilevit", kill=(0, 6))
    assert killed.returncode != 0
    alone, whole = (make_trainer("mobilevit", data, tmp_path / name / "mobilevit") for name in ("killed", "whole"))
    assert alone.resumed
    assert alone.steps_done > 0
    for each in (alone, whole):
        each.run()
    resumed = _weights(tmp_path / "killed" / "mobilevit")
    for name, value in _weights(tmp_path / "whole" / "mobilevit").items():
        torch.testing.assert_close(resumed[name], value, rtol=ROUNDING, atol=ROUNDING, msg=name)


@pytest.mark.slow
def test_several_processes_read_many_files_as_one_does(tmp_path: Path) -> None:
    images = pictures(46)
    for number, start in enumerate(range(0, len(images), 5)):
        write_parquet(tmp_path / f"train-{number:02}.parquet", images[start : start + 5])
    files = f"{tmp_path}/train-*.parquet"
    done = torchrun(2, files, tmp_path / "several", "mobilevit")
    assert done.returncode == 0, done.stderr
    make_trainer("mobilevit", files, tmp_path / "one" / "mobilevit").run()
    one, several = (_weights(tmp_path / name / "mobilevit") for name in ("one", "several"))
    for name, value in one.items():
        torch.testing.assert_close(several[name], value, rtol=ROUNDING, atol=ROUNDING, msg=name)


@pytest.mark.parametrize(("batch", "parts"), [(2, 1), (9, 2), (14, 3), (15, 3), (6, 3)])
def test_shares_of_a_batch_are_all_of_it_and_keep_what_is_mixed_together(batch: int, parts: int) -> None:
    shares = [share_of(batch, parts, index) for index in range(parts)]
    assert sorted(torch.cat(shares).tolist()) == list(range(batch))
    for share in shares:
        assert torch.equal(share.flip(0), batch - 1 - share)
    assert max(map(len, shares)) - min(map(len, shares)) <= 2


def test_what_is_left_over_for_less_than_two_images_a_process_is_skipped() -> None:
    recipe = Recipe(epochs=1, batch_size=8)
    assert [(step.start, step.stop) for step in plan_epoch(recipe, 0, 11, 40, processes=2)] == [(0, 8)]
    assert [(step.start, step.stop) for step in plan_epoch(recipe, 0, 12, 40, processes=2)] == [(0, 8), (8, 12)]


def test_a_batch_that_is_too_small_for_all_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RequestError, match="a step of 5 images is too small for 3 processes, which take two each"):
        check_batches(Recipe(batch_size=5))
    with pytest.raises(RequestError, match="a step of 5 images"):
        check_batches(Recipe(batch_size=6, sizes=(36,)), 32)
    with pytest.raises(RequestError, match=r"too small for 6 parts \(processes x accumulation\)"):
        check_batches(Recipe(batch_size=10, accumulation=2))
    check_batches(Recipe(batch_size=6, sizes=(32, 64)), 64)


def test_stochastic_depth_drops_in_a_part_what_it_drops_in_the_batch() -> None:
    layer, x, uniform = StochasticDepth(0.5, groups=2).train(), torch.ones(16, 3), torch.rand(8)
    places = torch.tensor([1, 3, 6])
    with drawing_samples(lambda samples: uniform):
        whole = layer(x)
    with drawing_samples(lambda samples: uniform[places]):
        part = layer(x[:6])
    assert 0 < whole[:, 0].count_nonzero() < 16
    assert torch.equal(part.view(3, 2, 3), whole.view(8, 2, 3)[places])


def test_a_measurement_that_is_shared_has_the_order_of_one_that_is_not() -> None:
    found = {}

    def gather(rank: int, own: list) -> list:
        found[rank] = own
        return [found.get(each, own) for each in range(3)]  # the first ones' results are not looked at

    for rank in (0, 1, 2):
        together = SimpleNamespace(size=3, rank=rank, gather=lambda own, rank=rank: gather(rank, own))
        last = for_each(lambda rows: [row * row for row in rows], 23, 4, together)
    assert last == [row * row for row in range(23)], "the last process had what all found"
    assert [len(own) for own in found.values()] == [2, 2, 2]
