"""Sweeps: which trials there are, and that they run, fail alone, resume and are ordered by what they reach."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from labeled_images import pictures, write_parquet
from PIL import Image

from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.recipe import Distillation, Recipe
from mobilevit_sdk.training.search_space import Trial, Values, check_space, parse_values, with_values
from mobilevit_sdk.training.sweep_chart import plot_sweep
from mobilevit_sdk.training.sweeps import draw_trials, sweep


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-4,1e-3", Values("values", (1e-4, 1e-3))),
        ("soft,hard", Values("values", ("soft", "hard"))),
        ("[32,48],[64]", Values("values", ([32, 48], [64]))),
        ("null,true", Values("values", (None, True))),
        ("uniform(0, 1)", Values("uniform", (0, 1))),
        ("log(1e-4,1e-2)", Values("log", (1e-4, 1e-2))),
        ("int(1,8)", Values("int", (1, 8))),
    ],
)
def test_values_are_listed_or_drawn(text: str, values: Values) -> None:
    assert parse_values(text) == values


@pytest.mark.parametrize("text", ["", " , ", "log(0,1)", "uniform(2,1)", "int(1,2.5)", "normal(0,1)", "log(a,b)"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_values(text)


def test_a_value_that_no_recipe_takes_is_named_before_anything_runs(tmp_path: Path) -> None:
    for name, text, said in (
        ("learning_rat", "1,2", "learning_rate"),
        ("learning_rate", "0.1,-1", "learning_rate=-1"),
        ("learning_rate", "uniform(1, 1e9)", "learning_rate=1000000000.0"),
        ("distillation.weight", "0.5,2", "weight must lie between 0 and 1"),
        ("epochs.more", "1", "is one value"),
    ):
        with pytest.raises(RequestError, match=said):
            check_space(Recipe(), {name: parse_values(text)})


def test_a_field_of_a_field_starts_from_its_defaults() -> None:
    recipe = with_values(Recipe(), {"distillation.weight": 0.9, "sizes": [32, 48]})
    assert recipe == Recipe(distillation=Distillation(weight=0.9), sizes=(32, 48))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_every_combination_is_tried_and_each_with_draws_of_its_own(a: int, b: int, draws: int, seed: int) -> None:
    space = {
        "epochs": Values("values", tuple(range(1, a + 1))),
        "learning_rate": Values("log", (1e-4, 1e-1)),
        "augment_ops": Values("int", (0, 3)),
        "batch_size": Values("values", tuple(range(2, b + 2))),
    }
    trials = draw_trials(space, draws, seed)
    assert trials == draw_trials(space, draws, seed)
    assert len(trials) == a * b * draws
    assert len({(each["epochs"], each["batch_size"]) for each in trials}) == a * b
    assert len({each["learning_rate"] for each in trials}) > len(trials) * 0.9  # drawn, and rounded to four digits
    for each in trials:
        assert 1e-4 <= each["learning_rate"] <= 1e-1
        assert each["augment_ops"] in range(4)


def test_the_chart_is_a_picture(tmp_path: Path) -> None:
    space = {"learning_rate": Values("log", (1e-4, 1e-1)), "distillation.kind": Values("values", ("soft", "hard"))}
    values = [{"learning_rate": 10.0 ** -(i % 4 + 1), "distillation.kind": ("soft", "hard")[i % 2]} for i in range(8)]
    trials = [Trial(i, each, 3 - i % 2, {"top1": 0.9 - i / 20}) for i, each in enumerate(values)]
    plot_sweep(trials, space, tmp_path / "sweep.png", 3)
    assert Image.open(tmp_path / "sweep.png").width > 600


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(RequestError, match="holds no sweep"):
        sweep("x", None, tmp_path, {"learning_rate": Values("values", (1e-3,))})


@pytest.mark.slow  # Ray starts processes of its own
def test_trials_run_side_by_side_one_may_fail_and_complete_ones_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'mobilevit-sdk[ray]'")
    write_parquet(tmp_path / "a.parquet", pictures(60))
    monkeypatch.chdir(tmp_path)  # paths may be relative
    out = tmp_path / "out"
    (tmp_path / "recipe.json").write_bytes(msgspec.json.encode(Recipe(epochs=2, batch_size=16, warmup_epochs=0.0)))
    line = ["sweep", str(tmp_path / "recipe.json"), "--param", "learning_rate=1e-3,1e-6", "--param", "clip_norm=1,5"]
    line += ["--data", "a.parquet", "--test-share", "0.2", "--image-size", "32", "--out", str(out), "--json"]
    ran = CliRunner().invoke(main, line)
    assert ran.exit_code == 0, ran.output
    trials = json.loads(ran.stdout)["trials"]
    assert len(trials) == 4
    assert all(trial["epochs"] == 2 for trial in trials)
    assert [trial["quality"]["top1"] for trial in trials] == sorted(
        (trial["quality"]["top1"] for trial in trials), reverse=True
    )
    best = msgspec.json.decode((out / "recipe.json").read_bytes(), type=Recipe)
    assert best.learning_rate == trials[0]["values"]["learning_rate"]
    assert Image.open(out / "sweep.png").width > 400
    trained = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/model.safetensors")}
    assert len(trained) == 4
    (out / "trials" / "0001" / "state.pt").write_bytes(b"damaged")
    again = CliRunner().invoke(main, line)
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in out.glob("trials/*/model.safetensors")} == trained
    failed = [trial for trial in json.loads(again.stdout)["trials"] if trial["problem"]]
    assert [trial["number"] for trial in failed] == [1]
    assert "state.pt is not a training state" in failed[0]["problem"]
    other = CliRunner().invoke(main, [*line[:-1], "--epochs", "3"])
    assert other.exit_code == 2
    assert "holds another sweep" in other.output
