"""The augmentations of DeiT's recipe: off exactly by default, meaning what they say, the same image by image."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from labeled_images import pictures, write_parquet
from torch import Tensor

from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.tasks.augment import OPERATIONS, augment, draw_operations
from mobilevit_sdk.tasks.draws import Draws, image_seeds
from mobilevit_sdk.training.schedule import epoch_seeds, plan_epoch, shuffled_rows

DEIT = Recipe(augment_magnitude=0.9, magnitude_std=0.05, augment_probability=0.5, erase_probability=0.25)
PLAIN = Recipe(crop_scale=(1.0, 1.0), augment_ops=0)


def _draws(count: int, seed: int = 0) -> Draws:
    return Draws(image_seeds(seed, 0, range(count)), torch.Generator())


def _with(recipe: Recipe, **fields: object) -> Recipe:
    return msgspec.structs.replace(recipe, **fields)


def _gray(count: int, size: int = 32) -> Tensor:
    return torch.full((count, 3, size, size), 128, dtype=torch.uint8)


def test_magnitudes_are_normal_around_their_mean_and_half_of_the_operations_are_applied() -> None:
    drawn = draw_operations(len(OPERATIONS), DEIT, _draws(6000))
    strengths = drawn[drawn != 0]
    assert len(strengths) / 6000 == pytest.approx(2 * 0.5, abs=0.05)
    assert (strengths > 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert strengths.abs().mean() == pytest.approx(0.9, abs=0.005)
    assert strengths.abs().std() == pytest.approx(0.05, abs=0.004)  # 2.3% of it beyond 1, where it is cut
    assert strengths.abs().max() <= 1
    fixed = draw_operations(len(OPERATIONS), _with(DEIT, magnitude_std=0.0, augment_probability=1.0), _draws(50))
    torch.testing.assert_close(fixed.abs().sum(1), torch.full((50,), 1.8))


def test_jitter_changes_brightness_contrast_and_saturation_by_its_share() -> None:
    recipe = _with(PLAIN, color_jitter=0.3)
    drawn = draw_operations(len(OPERATIONS), recipe, _draws(2000))
    used = {OPERATIONS[index] for index in drawn.count_nonzero(0).nonzero()[:, 0].tolist()}
    assert used == {"brightness", "contrast", "saturation"}
    changed = augment(_gray(2000, 4), (4, 4), recipe, _draws(2000)) / (128 / 255)  # by its brightness, of these three
    assert changed.amin() == pytest.approx(0.7, abs=0.005)
    assert changed.amax() == pytest.approx(1.3, abs=0.005)
    assert changed.mean() == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="without RandAugment: set augment_ops to 0"):
        Recipe(color_jitter=0.3)


def test_erasing_puts_noise_into_one_box_of_a_share_of_the_images() -> None:
    out = augment(_gray(2000), (32, 32), _with(PLAIN, erase_probability=0.25), _draws(2000))
    erased = (out - 128 / 255).abs() > 1e-5
    boxes = erased.any(1)
    some = boxes.flatten(1).any(1)
    assert some.float().mean() == pytest.approx(0.25, abs=0.04)
    heights, widths = (boxes[some].any(dim).sum(1) for dim in (2, 1))
    areas = (heights * widths) / 32**2
    assert (boxes[some].sum((1, 2)) / 32**2 - areas).abs().max() < 0.01  # all of the box
    assert areas.min() > 0.012  # 0.02 but for whole pixels
    assert areas.max() < 0.37
    assert areas.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    ratios = (heights / widths).log()
    assert ratios.abs().max() < np.log(1 / 0.3) + 0.5
    assert abs(float(ratios.mean())) < 0.15
    noise = out.movedim(1, -1)[boxes]
    torch.testing.assert_close(noise.mean(0), torch.tensor([0.485, 0.456, 0.406]), atol=0.01, rtol=0)
    torch.testing.assert_close(noise.std(0), torch.tensor([0.229, 0.224, 0.225]), atol=0.02, rtol=0)  # cut at 0 and 1
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.02


def test_every_image_is_the_same_in_any_batch_and_erased_alike_at_any_size() -> None:
    images = torch.randint(0, 256, (24, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    recipe, seeds = _with(DEIT, erase_probability=0.8), image_seeds(0, 0, range(24))
    whole = augment(images, (32, 32), recipe, _draws(24))
    for rows in torch.randperm(24).split(5):
        part = augment(images[rows], (32, 32), recipe, Draws(seeds[rows], torch.Generator()))
        assert torch.equal(part, whole[rows])
    large = augment(_gray(24, 64), (64, 64), _with(PLAIN, erase_probability=1.0), _draws(24))
    small = augment(_gray(24, 64), (32, 32), _with(PLAIN, erase_probability=1.0), _draws(24))
    shares = [((each - 128 / 255).abs() > 1e-5).any(1).float().mean((1, 2)) for each in (small, large)]
    torch.testing.assert_close(*shares, atol=0.06, rtol=0)


def test_what_is_off_changes_nothing() -> None:
    images = torch.randint(0, 256, (8, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    off = _with(DEIT, magnitude_std=None, augment_probability=1.0, erase_probability=0.0)
    same = Recipe(augment_magnitude=0.9)
    assert torch.equal(*(augment(images, (32, 32), recipe, _draws(8)) for recipe in (off, same)))


@pytest.mark.parametrize("images", [40, 41])
def test_repeats_show_a_third_of_the_images_three_times_in_epochs_as_long_as_before(tmp_path, images: int) -> None:
    dataset = open_dataset(write_parquet(tmp_path / "a.parquet", pictures(images, size=8)), labeled=True)
    recipe = Recipe(batch_size=8, repeats=3)
    shown = set()
    for epoch in range(4):
        steps = plan_epoch(recipe, epoch, images, 32)
        rows = shuffled_rows(recipe, epoch, steps, dataset)
        assert len(rows) == images
        found, counts = rows.unique(return_counts=True)
        assert len(found) == -(-images // 3)
        assert sorted(counts.tolist())[1:] == [3] * (len(found) - 1)
        seeds = epoch_seeds(recipe, epoch, rows)
        assert len(seeds.unique()) == images  # each time another view
        for repeat in range(3):  # copies stand one behind the other
            assert torch.equal(seeds[repeat::3], image_seeds(0, epoch, rows[repeat::3], repeat))
        shown |= set(found.tolist())
    assert len(shown) > images * 0.6
    once = _with(recipe, repeats=1)
    rows = shuffled_rows(once, 0, plan_epoch(once, 0, images, 32), dataset)
    assert torch.equal(epoch_seeds(once, 0, rows), image_seeds(0, 0, rows))
