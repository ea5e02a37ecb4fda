"""NaViT and NaFlex-ViT: packed sequences answer as single images, positions, features, sizes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import tiny_networks
import torch
import torch.nn.functional as F
from family_contract import check_graph
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import noise, tiny_model
from torch import Tensor

from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, deploy
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import to_patches
from mobilevit_sdk.layers.grid_positions import KINDS, GridPositions, LearnedPositions
from mobilevit_sdk.layers.query_key_norm import QueryKeyNorm
from mobilevit_sdk.layers.traits import HasNoDecay
from mobilevit_sdk.models.registry import build_model, model_entries, model_spec, spec_at_size
from mobilevit_sdk.models.resize import resize_network

PATCH = 8
POSITIONS = [
    pair
    for pair in itertools.product(KINDS, ("absolute", "fractional", "aspect"))
    if pair != ("grid", "absolute")
]  # fmt: skip
NAFLEX = {"biases": True, "qk_norm": False, "pooling": "mean", "final_norm": False}
GRIDS = [(2, 3), (5, 4), (5, 1), (1, 1), (3, 5)]


@dataclass
class Packed:
    """Sequences of patches of several images, as `forward_packed` takes them."""

    patches: Tensor
    rows: Tensor
    columns: Tensor
    heights: Tensor
    widths: Tensor
    images: Tensor

    def arguments(self) -> tuple[Tensor, ...]:
        return self.patches, self.rows, self.columns, self.heights, self.widths, self.images


def pack(sequences: list[list[tuple[Tensor, Tensor, tuple[int, int]]]], length: int) -> Packed:
    """Of each image its chosen patches, their numbers in it and its grid; padded with noise, shuffled in order."""
    batch = len(sequences)
    generator = torch.Generator().manual_seed(5)
    size = sequences[0][0][0].shape[1]
    packed = Packed(
        torch.randn(batch, length, size, generator=generator, dtype=torch.float64),
        *(torch.full((batch, length), value) for value in (0, 0, 1, 1, -1)),
    )
    for i, sequence in enumerate(sequences):
        places = torch.randperm(length, generator=generator)
        start = 0
        for number, (patches, chosen, (height, width)) in enumerate(sequence):
            where = places[start : start + len(chosen)]
            start += len(chosen)
            packed.patches[i, where] = patches
            packed.rows[i, where], packed.columns[i, where] = chosen // width, chosen % width
            packed.heights[i, where], packed.widths[i, where] = height, width
            packed.images[i, where] = number
    return packed


@pytest.mark.parametrize("kind", POSITIONS, ids="-".join)
@pytest.mark.parametrize("options", [{}, NAFLEX, {"pooling": "mean", "registers": 0}], ids=["paper", "naflex", "mean"])
@torch.inference_mode()
def test_packed_images_answer_as_each_alone(kind: tuple[str, str], options: dict) -> None:
    """Several grids, padding, sequences of unequal numbers, patches in any order."""
    model = tiny_model("navit", positions=kind[0], coordinates=kind[1], **options)[0].double()
    images = [noise(1, 3, PATCH * h, PATCH * w, seed=i, dtype=torch.float64) for i, (h, w) in enumerate(GRIDS)]
    items = [(to_patches(x, PATCH)[0], torch.arange(h * w), (h, w)) for x, (h, w) in zip(images, GRIDS, strict=True)]
    scores = model.forward_packed(*pack([items[:3], items[3:]], 40).arguments(), 4)
    assert scores.shape == (2, 4, 5)
    assert scores.isfinite().all()  # also of numbers without an image
    found = torch.cat([scores[0, :3], scores[1, :2]])
    expected = torch.cat([model(image) for image in images])
    assert (expected - expected.mean(0)).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@torch.inference_mode()
def test_dropped_tokens_are_as_if_they_had_never_been(pooling: str) -> None:
    """What is left keeps its positions on the whole grid; alone, it is a sequence without padding."""
    model = tiny_model("navit", pooling=pooling)[0].double()
    grids, items = [(4, 3), (2, 5)], []
    for i, (h, w) in enumerate(grids):
        patches = to_patches(noise(1, 3, PATCH * h, PATCH * w, seed=i, dtype=torch.float64), PATCH)[0]
        kept = torch.randperm(h * w, generator=torch.Generator().manual_seed(i))[: h * w // 2]
        items.append((patches[kept], kept, (h, w)))
    together = model.forward_packed(*pack([items], 16).arguments(), 2)[0]
    alone = torch.cat([model.forward_packed(*pack([[item]], len(item[1])).arguments(), 1)[0] for item in items])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)
    moved = (items[0][0], items[0][1].roll(1), items[0][2])
    assert (model.forward_packed(*pack([[moved]], 6).arguments(), 1)[0] - alone[0]).abs().max() > 1e-3


def test_gradients_of_a_packed_sequence_are_finite_and_those_of_its_images() -> None:
    """A sequence with padding and a number without an image gives nothing that is not of its images."""
    model = tiny_model("navit")[0].double()
    image = noise(1, 3, 16, 24, dtype=torch.float64)
    item = (to_patches(image, PATCH)[0], torch.arange(6), (2, 3))
    model.forward_packed(*pack([[item]], 9).arguments(), 2)[0, 0].square().sum().backward()
    packed = {name: each.grad.clone() for name, each in model.named_parameters()}
    model.zero_grad()
    model(image).square().sum().backward()
    for name, each in model.named_parameters():
        torch.testing.assert_close(packed[name], each.grad, rtol=1e-9, atol=1e-9)


@given(
    kind=st.sampled_from(POSITIONS),
    length=st.integers(2, 7),
    grid=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_positions_of_tokens_are_those_of_their_grid(kind, length, grid):
    """Larger and smaller than what was learned; of a table, `F.interpolate` against kernels of each token."""
    torch.manual_seed(length)
    positions: GridPositions = KINDS[kind[0]](8, length, kind[1]).double()
    if kind == ("learned", "absolute") and max(grid) > length:
        with pytest.raises(ValueError, match="longer than"):
            positions.on(grid, torch.zeros((), dtype=torch.float64))
        return
    numbers = torch.arange(grid[0] * grid[1])
    sides = (torch.full_like(numbers, side) for side in grid)
    like = torch.zeros((), dtype=torch.float64)
    found = positions(numbers // grid[1], numbers % grid[1], *sides, like)
    torch.testing.assert_close(found, positions.on(grid, like)[0], rtol=1e-12, atol=1e-12)


def test_learned_positions_are_interpolated_as_torch_does():
    positions = LearnedPositions(8, 6, "fractional").double()
    for side in (3, 6, 11):
        found = positions.on((side, 1), torch.zeros((), dtype=torch.float64))[0]
        rows = F.interpolate(positions.rows.transpose(1, 2), side, mode="linear", align_corners=False)[0].T
        columns = F.interpolate(positions.columns.transpose(1, 2), 1, mode="linear", align_corners=False)[0].T
        torch.testing.assert_close(found, rows + columns, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", POSITIONS, ids="-".join)
def test_rows_and_columns_are_told_apart(kind: tuple[str, str]) -> None:
    torch.manual_seed(0)
    found = KINDS[kind[0]](8, 6, kind[1]).on((4, 4), torch.zeros(())).view(4, 4, 8)
    assert (found - found.transpose(0, 1)).abs().max() > 1e-3
    assert (found[0, 0] - found[1, 1]).abs().max() > 1e-3


def test_query_and_key_norm_is_the_root_mean_square_norm() -> None:
    """With sqrt(key_dim) in its gains, and the scale of attention, 1 / sqrt(key_dim), too."""
    torch.manual_seed(0)
    q, k = (3 * torch.randn(2, 4, 5, 16, dtype=torch.float64) for _ in range(2))
    norm = QueryKeyNorm(4, 16).double()
    expected = F.rms_norm(q, (16,)) @ F.rms_norm(k, (16,)).transpose(2, 3) / 16**0.5
    found = torch.matmul(*(each if i == 0 else each.transpose(2, 3) for i, each in enumerate(norm(q, k))))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "grid", "coordinates": "absolute"}, "fractional or aspect"),
        ({"positions": "sinusoidal", "dim": 18}, "quarters of the channels"),
        ({"num_heads": 5}, "not divisible by num_heads 5"),
    ],
)
def test_a_config_that_describes_no_network_is_refused(options: dict, message: str) -> None:
    with pytest.raises((RequestError, ValueError), match=message):
        build_model(model_spec("navit_tiny_patch16", **options))


def test_sizes_that_the_positions_do_not_reach_are_refused() -> None:
    spec = model_spec("navit_base_patch16_absolute")
    assert spec_at_size(spec, 1024, 16).config == spec.config
    with pytest.raises(RequestError, match="no side may exceed 1024"):
        spec_at_size(spec, 1040, 16)
    with pytest.raises(RequestError, match="230x224 are not whole patches of 16 pixels"):
        spec_at_size(model_spec("navit_tiny_patch16"), 230, 224)


def test_a_network_for_another_size_is_the_same_network() -> None:
    model, spec = tiny_model("navit")
    assert resize_network(model, spec, 40, 64)[0] is model


@torch.inference_mode()
def test_features_are_tokens_of_patches_and_what_the_classifier_reads() -> None:
    model, _ = tiny_model("navit")
    images = noise(2, 3, 32, 40)
    x = model.norm(model.blocks(model.tokens(images))[:, 2:])
    pooled = model.fc_norm(model.pooling(x))
    for kind, expected in (("pooled", pooled), ("map", x.transpose(1, 2).reshape(2, 16, 4, 5))):
        features = tiny_model("navit")[0]
        features.return_features(kind)
        torch.testing.assert_close(features(images), expected)


def test_weight_decay_leaves_tokens_positions_and_gains_alone() -> None:
    model = build_model(tiny_networks.tiny_spec("navit"))
    left = {each for layer in model.modules() if isinstance(layer, HasNoDecay) for each in layer.no_decay()}
    names = {name.rpartition(".")[2] for name, each in model.named_parameters() if each in left}
    assert names == {"registers", "rows", "columns"}
    assert sum(each.ndim > 1 for each in model.parameters()) == len(left) + 2 * 4 + 4


@pytest.mark.parametrize("entry", model_entries("navit"), ids=lambda entry: entry.name)
def test_a_network_of_the_paper_has_no_bias_and_one_of_timm_has_all(entry) -> None:
    assert entry.config.biases == entry.name.startswith("naflexvit")
    assert (entry.info.top1 is None) == entry.name.startswith("navit")


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_phone_graphs_of_naflex_are_exact_and_taken_whole(target: str) -> None:
    """With the mean, biases, and no norm before the pool; other positions are other constants: test_ragged_rewrites."""
    check_graph(*tiny_model("navit", **NAFLEX, positions="grid", coordinates="aspect"), target, (40, 24))


@pytest.mark.parametrize("target", sorted(TARGETS))
@torch.inference_mode()
def test_phone_graphs_are_made_in_float32_as_well(target: str) -> None:
    """Some rewrites run the network between others."""
    model, spec = tiny_model("navit")
    image = noise(1, 3, *spec.preprocessing.image_size)
    expected = model(to_model_input(image, spec.preprocessing))
    torch.testing.assert_close(deploy(model, target, spec)(image), expected, rtol=1e-2, atol=1e-2)  # Vulkan's GELU


@pytest.mark.parametrize("target", ["coreml-ane", "xnnpack"])
def test_phone_graphs_without_registers_are_too(target: str) -> None:
    check_graph(*tiny_model("navit", pooling="mean", registers=0), target, (24, 24))
