"""Random numbers of an image's own seed: even, independent, and the same wherever the image stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.tasks.augment import augment, augment_shapes
from mobilevit_sdk.tasks.draws import Draws, image_seeds

SIDE = 40


def _draws(seeds: Tensor) -> Draws:
    return Draws(seeds, torch.Generator())


def _pictures(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    "seeds",
    [torch.arange(20_000), image_seeds(0, 0, range(20_000)), image_seeds(3, 7, [5], range(20_000))],
    ids=["neighbors", "rows", "repeats"],
)
def test_numbers_are_even_and_independent(seeds: Tensor) -> None:
    """Each bound is more than 5 standard deviations of what it bounds."""
    draws = _draws(seeds)
    drawn = torch.cat([draws.uniform(6), draws.uniform(2, 3).flatten(1)], 1).double().numpy()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    count = len(drawn)
    assert np.abs(drawn.mean(0) - 0.5).max() < 5.5 * np.sqrt(1 / 12 / count)
    assert np.abs(drawn.var(0) - 1 / 12).max() < 5.5 * np.sqrt(1 / 180 / count)
    filled = np.histogram(drawn, 64, (0, 1))[0]
    assert ((filled - drawn.size / 64) ** 2).sum() / (drawn.size / 64) < 63 + 5.5 * np.sqrt(2 * 63)  # chi squared
    columns = np.corrcoef(drawn.T) - np.eye(drawn.shape[1])
    assert np.abs(columns).max() < 5.5 / np.sqrt(count)
    centered = drawn - 0.5
    for apart in (1, 2, 3):  # images, of any two columns
        between = centered[:-apart].T @ centered[apart:] / count * 12
        assert np.abs(between).max() < 6 / np.sqrt(count)


def test_an_image_draws_the_same_in_any_batch_and_shape() -> None:
    seeds = image_seeds(0, 2, range(50))
    whole, some, reversed_ = _draws(seeds), _draws(seeds[7:12]), _draws(seeds.flip(0))
    first = whole.uniform(9)
    assert torch.equal(first[7:12, :4], some.uniform(4))
    assert torch.equal(first.flip(0).view(50, 3, 3), reversed_.uniform(3, 3))
    second = whole.uniform()
    assert torch.equal(second[7:12], some.uniform())  # though the calls before were of other shapes
    assert not torch.equal(first[:, 0], second)


def test_seeds_differ_by_image_epoch_repeat_and_recipe_and_fit_32_bits() -> None:
    rows = range(2000)
    found = [
        image_seeds(seed, epoch, rows, repeat)
        for seed in (0, 1, 2**63 - 1)
        for epoch in (0, 1, 89)
        for repeat in (0, 1)
    ]
    together = torch.cat(found)
    assert len(together.unique()) > len(together) - 8  # 36,000 of 2^31: 0.3 pairs are expected
    assert int(together.min()) >= 0
    assert int(together.max()) < 2**31
    assert float(together.double().mean() / 2**31) == pytest.approx(0.5, abs=0.01)
    assert torch.equal(image_seeds(0, 1, [5, 3], [0, 1]), torch.cat([found[2][5:6], found[3][3:4]]))


@pytest.mark.parametrize("size", [(32, 32), (16, 24)])
def test_a_seed_gives_the_same_pixels_at_any_place_in_batches_of_any_size(size: tuple[int, int]) -> None:
    images, seeds, recipe = _pictures(37), image_seeds(0, 0, range(37)), Recipe(augment_ops=3)
    whole = augment(images, size, recipe, _draws(seeds))
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0))
    for parts in (order.split(1), order.split(5), order.split(16)):
        for rows in parts:
            assert torch.equal(augment(images[rows], size, recipe, _draws(seeds[rows])), whole[rows])
    again = augment(images, size, recipe, _draws(image_seeds(0, 1, range(37))))
    assert ((again - whole).abs().mean((1, 2, 3)) > 0.01).all()


def test_images_of_several_shapes_get_the_same_pixels_in_any_company() -> None:
    images = [image[:, : 24 + 4 * (row % 4), :] for row, image in enumerate(_pictures(12))]
    seeds = image_seeds(0, 0, range(12))

    def shown(rows: list[int]) -> list[Tensor]:
        return augment_shapes([images[row] for row in rows], lambda *_: (16, 24), Recipe(), _draws(seeds[rows]))

    whole = shown([*range(12)])
    for rows in ([3], [8, 0, 5], [11, 10, 9, 8, 7, 6]):
        for row, image in zip(rows, shown(rows), strict=True):
            assert torch.equal(image, whole[row])
