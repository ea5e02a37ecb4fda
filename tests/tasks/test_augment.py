"""Augmentation: nothing at strength 0, something at any other, true shares when mixing, one seed one result."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mobilevit_sdk.tasks import augment as module
from mobilevit_sdk.tasks.augment import GEOMETRIC, OPERATIONS, PHOTOMETRIC, augment, mix
from mobilevit_sdk.tasks.draws import Draws, image_seeds
from mobilevit_sdk.training import Recipe


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draws(count: int, seed: int = 0) -> Draws:
    return Draws(image_seeds(seed, 0, range(count)), _generator(seed))


def _images(batch: int = 6, size: int = 24) -> Tensor:
    return torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=_generator(1))


def _smooth(batch: int = 2, size: int = 48) -> Tensor:
    """Red rises from left to right, green from top to bottom, over most of the range; blue is constant."""
    line = torch.linspace(30, 220, size)
    image = torch.stack((line.expand(size, size), line[:, None].expand(size, size), torch.full((size, size), 77.0)))
    return image.round().to(torch.uint8).repeat(batch, 1, 1, 1)


@pytest.fixture
def centered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every random number is 0.5: the middle of each range, and no flip."""
    monkeypatch.setattr(Draws, "uniform", lambda self, *shape: torch.full((len(self), *shape), 0.5))


def _with_one_operation(monkeypatch: pytest.MonkeyPatch, images: Tensor, name: str, strength: float) -> Tensor:
    strengths = torch.zeros(len(images), len(OPERATIONS))
    strengths[:, OPERATIONS.index(name)] = strength
    monkeypatch.setattr(module, "draw_operations", lambda *_: strengths)
    return augment(images, (images.shape[-2], images.shape[-1]), Recipe(crop_scale=(1.0, 1.0)), _draws(len(images)))


@pytest.mark.usefixtures("centered")
@pytest.mark.parametrize("recipe", [{"augment_magnitude": 0.0}, {"augment_ops": 0}])
def test_no_strength_and_a_full_crop_is_the_identity(recipe: dict) -> None:
    images = _images()
    out = augment(images, (24, 24), Recipe(crop_scale=(1.0, 1.0), **recipe), _draws(6))
    torch.testing.assert_close(out, images / 255, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("centered")
@pytest.mark.parametrize("strength", [-0.5, 0.5])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_changes_the_picture_and_stays_in_range(
    monkeypatch: pytest.MonkeyPatch, name: str, strength: float
) -> None:
    images = _images()
    out = _with_one_operation(monkeypatch, images, name, strength)
    assert (out - images / 255).abs().mean() > 0.009
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.usefixtures("centered")
def test_photometric_operations_have_their_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _smooth() / 255

    def after(name: str, strength: float) -> Tensor:
        return _with_one_operation(monkeypatch, _smooth(), name, strength)

    torch.testing.assert_close(after("brightness", -0.5), x * 0.55, atol=1e-5, rtol=0)
    gray = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(after("saturation", -1.0), gray + 0.1 * (x - gray), atol=1e-5, rtol=0)
    mean = gray.mean((2, 3), keepdim=True)
    torch.testing.assert_close(after("contrast", -1.0), mean + 0.1 * (x - mean), atol=1e-5, rtol=0)
    torch.testing.assert_close(after("solarize", 0.5), torch.where(x > 0.5, 1 - x, x), atol=1e-5, rtol=0)
    assert len(after("posterize", 1.0).unique()) <= 4
    inner = (..., slice(1, -1), slice(1, -1))  # a ramp has no edges to sharpen, but it ends at the border
    torch.testing.assert_close(after("sharpness", 1.0)[inner], x[inner], atol=1.5 / 255 * 2, rtol=0)


@pytest.mark.usefixtures("centered")
@pytest.mark.parametrize(
    ("name", "right", "down"), [("translate_x", 0.3, 0.0), ("translate_y", 0.0, 0.3)], ids=["across", "down"]
)
def test_translation_looks_at_another_part_of_the_picture(
    monkeypatch: pytest.MonkeyPatch, name: str, right: float, down: float
) -> None:
    out = _with_one_operation(monkeypatch, _smooth(), name, 0.5)  # strength 1 moves by 0.6 of half the picture
    middle = out[0, :2, 20:28, 20:28].mean((1, 2)) * 255
    # Half a picture is 95 levels of the ramp, and 0.3 of it 28.5.
    torch.testing.assert_close(middle, 125 + 95 * torch.tensor([right, down]), atol=1.5, rtol=0)


def test_crop_has_its_share_of_the_area_and_half_are_flipped() -> None:
    recipe = Recipe(crop_scale=(0.25, 0.5), augment_ops=0)
    out = augment(_smooth(batch=400), (32, 32), recipe, _draws(400)) * 255
    slope_x = (out[:, 0, 16, 24] - out[:, 0, 16, 8]) / 16 * 32 / 190  # share of the width, negative when flipped
    slope_y = (out[:, 1, 24, 16] - out[:, 1, 8, 16]) / 16 * 32 / 190
    assert slope_y.min() > 0.3
    area = slope_x.abs() * slope_y
    assert 0.23 < area.min() < 0.28
    assert 0.46 < area.max() < 0.54
    assert 0.4 < (slope_x < 0).float().mean() < 0.6
    assert out.min() > 28  # nothing from outside the picture
    assert out.max() < 222


@pytest.mark.usefixtures("centered")
@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y"])
def test_rectangles_turn_and_lean_as_the_square_around_them_does(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Both are centered, so the middle of the square's result is the rectangle's, in pixels of the same size."""
    square = _smooth(batch=1, size=96)
    whole = _with_one_operation(monkeypatch, square, name, 0.5)
    part = _with_one_operation(monkeypatch, square[:, :, 24:72], name, 0.5)
    inner = (..., slice(12, 36), slice(36, 60))  # of the rectangle, where neither looks outside of its picture
    torch.testing.assert_close(part[inner], whole[:, :, 24:72][inner], atol=2e-3, rtol=0)


def test_cut_out_boxes_have_the_proportions_of_rectangles() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 40, 20)
    recipe, seen = Recipe(mix_probability=1.0, mix_alpha=1.0), 0
    for seed in range(40):
        mixed, targets = mix(images, torch.eye(4), recipe, _generator(seed))
        if (foreign := mixed[0, 0] == 3).any() and len(mixed[0].unique()) == 2:
            height, width = (int(foreign.any(dim).sum()) for dim in (1, 0))
            assert int(foreign.sum()) == height * width
            assert abs(height - 2 * width) <= 2
            assert float(targets[0, 3]) == pytest.approx(height * width / 800)
            seen += 1
    assert seen > 5


@pytest.mark.parametrize("size", [16, 24, 32])
def test_output_has_the_size_of_the_step(size: int) -> None:
    out = augment(_images(), (size, size), Recipe(), _draws(6))
    assert out.shape == (6, 3, size, size)
    assert out.dtype == torch.float32


@pytest.mark.usefixtures("centered")
def test_shrinking_averages_pixels_instead_of_skipping_them() -> None:
    columns = torch.tensor([0, 0, 0, 255], dtype=torch.uint8).repeat(16).expand(1, 3, 64, 64)
    out = augment(columns, (16, 16), Recipe(crop_scale=(1.0, 1.0), augment_ops=0), _draws(1))
    torch.testing.assert_close(out, torch.full_like(out, 0.25))


def test_each_image_draws_its_operations_from_all_alike() -> None:
    drawn = module.draw_operations(len(OPERATIONS), Recipe(augment_ops=2, augment_magnitude=0.4), _draws(3000))
    assert (drawn.count_nonzero(1) == 2).all()
    assert drawn.abs().max() <= 0.4
    share = drawn.count_nonzero(0) / 3000
    torch.testing.assert_close(share, torch.full((len(OPERATIONS),), 2 / len(OPERATIONS)), atol=0.03, rtol=0)
    assert len(GEOMETRIC) + len(PHOTOMETRIC) == len(OPERATIONS)


def test_one_seed_gives_one_result_and_another_seed_another() -> None:
    images, targets = _images(), torch.eye(6)
    recipe = Recipe(mix_probability=1.0)

    def run(seed: int) -> tuple[Tensor, Tensor]:
        draws = _draws(6, seed)
        return mix(augment(images, (24, 24), recipe, draws), targets, recipe, draws.batch)

    torch.manual_seed(1)
    first = run(0)
    torch.manual_seed(2)  # the global generator has no say
    for mine, again, other in zip(first, run(0), run(1), strict=True):
        assert torch.equal(mine, again)
        assert not torch.equal(mine, other)


def test_mixed_targets_are_the_true_shares_of_the_pixels() -> None:
    """Image i is the constant i, so that every pixel tells where it comes from."""
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 20, 20)
    recipe = Recipe(mix_probability=1.0, mix_alpha=1.0)
    kinds = set()
    for seed in range(40):
        mixed, targets = mix(images, torch.eye(4), recipe, _generator(seed))
        torch.testing.assert_close(targets.sum(1), torch.ones(4))
        for row in range(4):
            if len(mixed[row].unique()) == 1:  # mixup: the value itself is the mean of the sources
                expected = float(mixed[row].mean())
                kinds.add("mixup")
                assert (targets[row] * torch.arange(4.0)).sum().item() == pytest.approx(expected, abs=1e-5)
            else:
                kinds.add("cutmix")
                for source in range(4):
                    share = (mixed[row] == source).float().mean().item()
                    assert targets[row, source].item() == pytest.approx(share, abs=1e-6)
    assert kinds == {"mixup", "cutmix"}


def test_mixing_happens_as_often_as_the_recipe_says() -> None:
    images, targets = torch.rand(2, 3, 8, 8, generator=_generator()), torch.eye(2)
    recipe = Recipe(mix_probability=0.3)
    mixed = sum(mix(images, targets, recipe, _generator(seed))[1] is not targets for seed in range(400))
    assert 0.22 < mixed / 400 < 0.38
    assert all(mix(images, targets, Recipe(mix_probability=0.0), _generator(s))[0] is images for s in range(20))


@pytest.mark.parametrize("alpha", [0.2, 0.8, 2.0])
def test_mixing_share_follows_the_beta_distribution(alpha: float) -> None:
    generator = _generator()
    draws = torch.tensor([module.draw_beta(alpha, alpha, generator) for _ in range(4000)])
    assert draws.min() >= 0
    assert draws.max() <= 1
    assert draws.mean().item() == pytest.approx(0.5, abs=0.02)
    assert draws.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)
