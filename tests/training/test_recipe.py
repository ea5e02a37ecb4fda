"""The recipe: schedules of learning rate and sizes, and untrusted JSON files."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from helpers import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.training import Recipe, read_recipe

RECIPES = REPOSITORY / "recipes"


def test_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    recipe = Recipe(epochs=10, warmup_epochs=2, learning_rate=1.0, final_learning_rate=0.1)
    assert recipe.learning_rate_at(0.1) == pytest.approx(0.5)
    assert recipe.learning_rate_at(0.2) == pytest.approx(1.0)
    assert recipe.learning_rate_at(0.6) == pytest.approx(0.55)
    assert recipe.learning_rate_at(0.4) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert recipe.learning_rate_at(1.0) == pytest.approx(0.1)
    assert 0 < recipe.learning_rate_at(0.0) < 0.01


def test_learning_rate_without_warm_up_starts_at_its_highest() -> None:
    assert Recipe(warmup_epochs=0).learning_rate_at(0.0) == Recipe().learning_rate


@given(progress=st.floats(0, 1), warmup=st.floats(0, 30), epochs=st.integers(1, 40))
@settings(max_examples=4 * settings().max_examples)
def test_learning_rate_stays_between_its_ends(progress: float, warmup: float, epochs: int) -> None:
    recipe = Recipe(epochs=epochs, warmup_epochs=warmup)
    assert 0 < recipe.learning_rate_at(progress) <= recipe.learning_rate


def test_sizes_grow_and_end_at_the_evaluation_size() -> None:
    recipe = Recipe(sizes=(64, 32, 48), size_ramp=0.6, final_share=0.25)
    grown = [recipe.sizes_at(share, 64) for share in (0.0, 0.19, 0.21, 0.39, 0.41, 0.74)]
    assert grown == [(32,), (32,), (32, 48), (32, 48), (32, 48, 64), (32, 48, 64)]
    assert recipe.sizes_at(0.75, 64) == recipe.sizes_at(0.99, 64) == (64,)
    assert Recipe().sizes_at(0.0, 64) == (64,)
    assert Recipe(sizes=(32, 64), size_ramp=0.0).sizes_at(0.0, 64) == (32, 64)


@pytest.mark.parametrize("size", [48, 64, 96, 128])
def test_batches_hold_the_same_number_of_pixels_at_every_size(size: int) -> None:
    recipe = Recipe(batch_size=96)
    assert recipe.batch_size_at(size, 64) * size**2 == pytest.approx(96 * 64**2, rel=0.03)


def test_batches_are_at_most_four_times_as_large_and_never_single() -> None:
    assert Recipe(batch_size=10).batch_size_at(32, 256) == 40
    assert Recipe(batch_size=2).batch_size_at(256, 32) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Input data was truncated"),
        ("{", "Input data was truncated"),
        ("[]", "Expected `object`, got `array`"),
        ('{"epochs": "ten"}', r"Expected `int`, got `str` - at `\$.epochs`"),
        ('{"epochs": 0}', "epochs must lie between 1 and 1,000,000, not 0"),
        ('{"batch_size": 1}', "batch_size must lie between 2 and 1,000,000, not 1"),
        ('{"seed": -1}', "seed must lie between 0"),
        ('{"learning_rate": -0.1}', "learning_rate must lie between 0 and 100, not -0.1"),
        ('{"learning_rate": NaN}', "malformed"),
        ('{"mix_alpha": 0}', "mix_alpha must lie between"),
        ('{"sizes": [32, 16]}', "sizes must lie between 32 and 4096 pixels, not 32, 16"),
        ('{"crop_scale": [0.8, 0.2]}', "crop_scale must be two increasing shares"),
        ('{"crop_scale": [0.8]}', "Expected `array` of length 2"),
        ('{"precision": "fp8"}', "Invalid enum value 'fp8'"),
        ('{"learnin_rate": 0.1}', "unknown field `learnin_rate`; did you mean learning_rate"),
        ('{"model": ' + "[" * 5000, "is not a training recipe"),
    ],
)
def test_wrong_recipe_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(RequestError, match=message) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)


def test_missing_or_binary_recipe_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot read the recipe"):
        read_recipe(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="is not a training recipe"):
        read_recipe(tmp_path / "binary.json")


@pytest.mark.parametrize("field", ["learning_rate", "label_smoothing", "ema_decay", "clip_norm"])
def test_nan_is_no_value_of_a_recipe(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must lie between"):
        Recipe(**{field: math.nan})


def test_recipe_survives_json(tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, sizes=(32, 48), precision="bf16", model={"dropout": 0.1})
    (tmp_path / "recipe.json").write_bytes(msgspec.json.encode(recipe))
    assert read_recipe(tmp_path / "recipe.json") == recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_recipes_are_recipes(path: Path) -> None:
    assert read_recipe(path) != Recipe()
