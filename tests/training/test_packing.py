"""Patch n' Pack: every patch in one place, sequences nearly full, answers those of each image alone, and trainings."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labeled_images import pictures, write_parquet
from torch import Tensor

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import to_patches
from mobilevit_sdk.models.registry import build_model, model_spec, spec_at_size
from mobilevit_sdk.recipe import PACKED_RECIPE, Packing, Recipe, make_recipe
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks.draws import Draws, image_seeds
from mobilevit_sdk.training import Trainer
from mobilevit_sdk.training.feeds import packed_sizes
from mobilevit_sdk.training.packing import draw_kept, first_fit, grid_of, pack, plan_sequences
from mobilevit_sdk.training.pixels import ShapeCache
from mobilevit_sdk.training.start import network_for_training

SMALL = {"dim": 24, "num_heads": 2, "depth": 2, "patch_size": 8, "num_classes": 5}
LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60)


def _spec(**options: object) -> ModelSpec:
    return spec_at_size(model_spec("navit_tiny_patch16", **SMALL | options), 32, 32)


def _draws(count: int) -> Draws:
    return Draws(image_seeds(0, 0, range(count)), torch.Generator())


@given(LENGTHS, st.integers(50, 120), st.integers(1, 8))
def test_every_image_is_in_one_sequence_that_has_room_for_it(lengths: list[int], capacity: int, most: int) -> None:
    for plan in (first_fit(lengths, capacity, most), plan_sequences(lengths, capacity, most)):
        assert sorted(item for items in plan for item in items) == list(range(len(lengths)))
        assert all(sum(lengths[item] for item in items) <= capacity for items in plan)
        assert all(0 < len(items) <= most for items in plan)


@given(LENGTHS)
def test_no_sequence_is_opened_while_an_earlier_one_has_room(lengths: list[int]) -> None:
    plan = first_fit(lengths, 60, 100)
    for later, items in enumerate(plan):
        for earlier in plan[:later]:  # what stood in it when the first item of the later one came
            before = sum(lengths[item] for item in earlier if item < items[0])
            assert before + lengths[items[0]] > 60


def _places(lengths: list[int], plan: list[list[int]]) -> int:
    return len(plan) * max(sum(lengths[item] for item in items) for items in plan)


@given(LENGTHS, st.integers(50, 120), st.integers(1, 8))
def test_a_plan_computes_no_more_places_than_first_fit(lengths: list[int], capacity: int, most: int) -> None:
    longest_first = sorted(lengths, reverse=True)
    fitted = _places(longest_first, first_fit(longest_first, capacity, most))
    assert _places(lengths, plan_sequences(lengths, capacity, most)) <= fitted


@given(LENGTHS, st.integers(50, 120), st.integers(1, 8))
def test_no_item_moved_out_of_the_longest_sequence_makes_a_plan_shorter(lengths, capacity, most) -> None:
    plan = plan_sequences(lengths, capacity, most)
    totals = [sum(lengths[item] for item in items) for items in plan]
    longest = totals.index(max(totals))
    room = [total for place, total in enumerate(totals) if len(plan[place]) < most and place != longest]
    assert all(lengths[item] + total >= totals[longest] for item in plan[longest] for total in room)


@pytest.mark.parametrize("capacity", [392, 512])
@pytest.mark.parametrize("images", [32, 128])
def test_whole_photographs_leave_less_than_two_percent_of_padding(images: int, capacity: int) -> None:
    tokens = places = 0
    for step in range(512 // images):
        sides = torch.empty(images).uniform_(112, 224, generator=torch.Generator().manual_seed(step)).tolist()
        proportions = [4 / 3, 3 / 2, 3 / 4, 1, 16 / 9, 2 / 3]
        lengths = [math.prod(grid_of(proportions[i % 6], side, 16)) for i, side in enumerate(sides)]
        tokens += sum(lengths)
        places += _places(lengths, plan_sequences(lengths, capacity, 64))
    assert 0 < 1 - tokens / places < 0.02


def test_an_image_that_no_sequence_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="an image of 61 tokens does not fit into sequences of 60"):
        first_fit([10, 61], 60, 4)


@given(st.floats(0.05, 20), st.floats(4, 400))
def test_grids_keep_proportions_and_do_not_exceed_the_pixels(proportions: float, side: float) -> None:
    rows, columns = grid_of(proportions, side, 8)
    limit = max(1, (side / 8) ** 2)
    assert 1 <= rows * columns <= limit + 1e-6
    if limit >= 64:
        asked = min(max(proportions, 0.25), 4)
        assert abs(math.log(columns / rows / asked)) < 0.25
        assert rows * columns > 0.7 * limit


def test_usual_photographs_get_the_grids_of_their_proportions() -> None:
    assert [grid_of(each, 224, 16) for each in (1, 4 / 3, 3 / 4)] == [(14, 14), (12, 16), (16, 12)]


def _images(*grids: tuple[int, int], patch: int = 8) -> list[Tensor]:
    return [
        torch.randn(3, h * patch, w * patch, generator=torch.Generator().manual_seed(h * 31 + w), dtype=torch.float64)
        for h, w in grids
    ]


def test_packed_images_answer_as_each_alone() -> None:
    torch.manual_seed(0)
    model = build_model(_spec(registers=2)).double().eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    images = _images((4, 4), (2, 6), (5, 3), (1, 1), (3, 3))
    packed = pack(images, 8, 24, 3)
    assert len(packed.patches) > 1
    assert packed.padding > 0
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in images])
        assert (packed.scores(model) - alone).abs().max() <= 1e-9 * alone.abs().max()
    assert alone.std(0).min() > 1e-3 * alone.abs().max()  # images differ


def test_dropped_patches_are_those_not_kept() -> None:
    images = _images((3, 4), (2, 2))
    kept = [torch.tensor([1, 6, 11]), torch.tensor([3])]
    packed = pack(images, 8, 12, 8, kept)
    assert packed.patches.shape[:2] == (1, 4)
    seen = torch.cat([to_patches(image[None], 8)[0][own] for image, own in zip(images, kept, strict=True)])
    assert torch.equal(packed.patches[0], seen)
    places = torch.stack([packed.rows, packed.columns, packed.heights, packed.widths, packed.owners])[:, 0].T
    assert places.tolist() == [[0, 1, 3, 4, 0], [1, 2, 3, 4, 0], [2, 3, 3, 4, 0], [1, 1, 2, 2, 1]]


def test_token_drop_keeps_its_share_on_average_with_a_rate_for_each_image() -> None:
    kept = draw_kept([100] * 2000, 0.3, _draws(2000))
    shares = np.array([len(each) / 100 for each in kept])
    assert shares.mean() == pytest.approx(0.7, abs=0.015)
    assert shares.std() > 0.1
    assert all(len(each.unique()) == len(each) and int(each.max()) < 100 for each in kept[:50])
    assert [len(each) for each in draw_kept([100, 1], 0, _draws(2))] == [100, 1]
    assert [len(each) for each in draw_kept([1] * 20, 0.9, _draws(20))] == [1] * 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(20))


def test_cached_images_keep_their_proportions_and_strips_lose_their_ends(tmp_path: Path) -> None:
    from PIL import Image

    images = [Image.new("RGB", size) for size in ((90, 60), (30, 300), (20, 20))]
    (tmp_path / "a").mkdir()
    for number, image in enumerate(images):
        image.save(tmp_path / "a" / f"{number}.png")
    cache = ShapeCache(open_dataset(tmp_path, labeled=True), 35, longest=4)
    (found, _) = next(cache.batches([[0, 1, 2]]))
    assert [tuple(image.shape[1:]) for image in found] == [(33, 49), (80, 20), (20, 20)]
    assert all(torch.equal(one, other) for one, other in zip(found, cache.images or (), strict=True))


def _train(
    data: Path, out: Path, recipe: Recipe, stop_after: int | None = None, spec: ModelSpec | None = None
) -> Trainer:
    spec, dataset = spec or _spec(), open_dataset(data, labeled=True)
    network = network_for_training(spec, recipe, None)
    trainer = Trainer(network, spec, recipe, dataset, dataset, out, device=torch.device("cpu"))
    steps = 0
    take_step = trainer._train_step

    def counted(*arguments: object) -> float:
        nonlocal steps
        steps += 1
        if steps == stop_after:
            trainer.stop()
        return take_step(*arguments)  # type: ignore[arg-type]

    trainer._train_step = counted  # type: ignore[method-assign, assignment]
    trainer.run()
    return trainer


RECIPE = msgspec.structs.replace(PACKED_RECIPE, epochs=2, batch_size=6, packing=Packing(sides=(16, 32)))


def test_an_interrupted_packed_training_ends_bit_for_bit_where_it_would_have(data: Path, tmp_path: Path) -> None:
    _train(data, tmp_path / "whole", RECIPE)
    _train(data, tmp_path / "parts", RECIPE, stop_after=2)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    _train(data, tmp_path / "parts", RECIPE)
    one, other = (load_checkpoint(tmp_path / each / "model.safetensors") for each in ("whole", "parts"))
    assert all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))
    assert one.spec.provenance["recipe"]["packing"]["sides"] == [16, 32]


def test_a_packed_training_learns(data: Path, tmp_path: Path) -> None:
    gentle = {"augment_ops": 0, "label_smoothing": 0.0, "ema_decay": 0.9, "crop_scale": (0.8, 1.0)}
    packing = Packing(sides=(24, 32), drop=0.2)
    recipe = msgspec.structs.replace(RECIPE, epochs=8, batch_size=2, learning_rate=4e-3, packing=packing, **gentle)
    history = _train(data, tmp_path, recipe).history()
    assert history[-1].loss < history[0].loss
    assert (history[-1].top1 or 0) >= 0.6  # of five classes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix_probability": 0.5}, "set mix_probability to 0"),
        ({"sizes": (32, 40)}, "leave out sizes"),
    ],
)
def test_recipes_that_cannot_be_packed_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_recipe(None, changes, PACKED_RECIPE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"drop": 1.0}, "drop must lie"),
        ({"sides": (32, 16)}, "increasing"),
        ({"sequence": 0}, "sequence"),
        ({"images": 0}, "images"),
    ],
)
def test_packings_that_mean_nothing_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Packing(**fields)


def test_networks_that_take_one_size_are_not_fed_packed_images(data: Path, tmp_path: Path) -> None:
    spec = spec_at_size(model_spec("mobilevit_xxs", num_classes=5), 32, 32)
    with pytest.raises(RequestError, match="packing is for networks such as navit_"):
        _train(data, tmp_path, RECIPE, spec=spec)


def test_sequences_and_tables_that_hold_no_image_are_refused() -> None:
    with pytest.raises(RequestError, match="sequences of 15 tokens do not hold an image of 16"):
        packed_sizes(_spec(), Packing(sequence=15))
    absolute = _spec(coordinates="absolute", position_length=6)
    with pytest.raises(RequestError, match="longer than the 6 learned positions"):
        packed_sizes(absolute, Packing())
    assert packed_sizes(_spec(), Packing()) == ((16, 32), 32)
