"""DearKD: relative positions that begin as a convolution, are the same on every grid, and leave the tokens out."""

from __future__ import annotations

from functools import partial
from itertools import product

import msgspec
import pytest
import tiny_networks
import torch
from family_contract import as_target_computes_gelu
from tiny_networks import noise

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.identify import match_release
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, deploy
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import Attention, RelativePositions
from mobilevit_sdk.models.catalog import catalog
from mobilevit_sdk.models.registry import build_model, model_entries
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.spec import MemoryTask

tiny_model = partial(tiny_networks.tiny_model, "dearkd")


def test_the_networks_are_deit_s_with_other_heads_and_eight_convolutional_blocks() -> None:
    deit = {entry.model: entry for entry in catalog("vit")}
    for entry, heads in zip(model_entries("dearkd"), (12, 12, 16), strict=True):
        (stored,) = [each for each in catalog("dearkd") if each.model == entry.name]
        theirs = deit[entry.name.replace("dearkd", "deit").replace("_patch", "_distilled_patch")]
        assert stored.parameters == theirs.parameters + 8 * heads * 3
        assert stored.macs == theirs.macs  # positions are constants in inference
        with torch.device("meta"):
            network = create_model(entry.name)
        biased = [block.attention.position_bias is not None for block in network.blocks]
        assert biased == [True] * 8 + [False] * 4
        assert {block.attention.num_heads for block in network.blocks} == {heads}


def test_a_score_gets_the_square_of_the_distance_from_a_head_s_offset() -> None:
    """v . (|d|^2, dx, dy) with v = -alpha (1, -2 Dx, -2 Dy), and nothing for class and distillation tokens."""
    positions = RelativePositions(2, (3, 4), 2).double()
    with torch.no_grad():
        positions.table.copy_(torch.tensor([[-0.5, -2 * -0.5 * 1.5, -2 * -0.5 * -1.0], [0.25, 1.0, -3.0]]))
    bias = positions()
    assert bias.shape == (2, 14, 14)
    assert not bias[:, :2].any()
    assert not bias[:, :, :2].any()
    for (qy, qx), (ky, kx) in product(product(range(3), range(4)), repeat=2):
        dx, dy = kx - qx, ky - qy
        ours = bias[:, 2 + 4 * qy + qx, 2 + 4 * ky + kx]
        first = -0.5 * ((dx - 1.5) ** 2 + (dy + 1.0) ** 2 - 1.5**2 - 1.0)
        assert ours.tolist() == pytest.approx([first, 0.25 * (dx**2 + dy**2) + dx - 3 * dy])


def test_heads_begin_as_the_pixels_of_a_convolution_and_those_left_over_at_random() -> None:
    for heads, side in ((9, 3), (12, 3), (16, 4)):
        table = RelativePositions(heads, (14, 14), 2).table.detach()
        centers = (table[: side**2, 1:] / 2).tolist()  # of strength 1
        along = [number - (side - 1) / 2 for number in range(side)]
        assert sorted(map(tuple, centers)) == sorted(product(along, along))
        assert (table[: side**2, 0] == -1).all()
        assert 0 < table[side**2 :].abs().max() < 0.1 if heads == 12 else len(table) == side**2
    maps = RelativePositions(9, (14, 14), 2)()[:, 2:, 2:].softmax(2)
    offsets = {divmod(int(each[6 * 14 + 6].argmax()), 14) for each in maps}  # of a patch within
    assert offsets == set(product((5, 6, 7), (5, 6, 7)))


@torch.inference_mode()
def test_relative_positions_are_exact_on_every_grid() -> None:
    """They are functions of offsets: a resized network has the very numbers, and no table is interpolated."""
    model, spec = tiny_model()
    small = model.blocks[0].attention.position_bias
    resized, _ = resize_network(model, spec, 48, 64)
    large = resized.blocks[0].attention.position_bias
    assert torch.equal(small.table, large.table)
    assert large.grid == (6, 8)
    shared = torch.tensor([[8 * y + x for x in range(4)] for y in range(4)]).flatten() + 2
    assert torch.equal(large()[:, shared][:, :, shared], small()[:, 2:, 2:])
    assert torch.equal(small((6, 8)), large())
    image = noise(1, 3, 48, 64)
    assert torch.equal(resized(image), model(image))


def test_positions_are_read_and_each_head_s_learns() -> None:
    model, spec = tiny_model()
    image = noise(1, 3, *spec.preprocessing.image_size)
    before, positions = model(image), model.blocks[0].attention.position_bias
    before.square().sum().backward()
    assert (positions.table.grad.abs() > 0).all()
    with torch.no_grad():
        positions.table[4, 1] += 1
    assert (model(image) - before).abs().max() > 1e-4


def test_a_head_with_a_place_attends_as_the_definition_says() -> None:
    """softmax(q k / sqrt(d) + v . r), written out."""
    torch.manual_seed(0)
    attention = Attention(8, 2, positions=RelativePositions(2, (2, 3), 1)).double()
    x = torch.randn(1, 7, 8, dtype=torch.float64)
    q, k, v = attention.qkv(x)[0].view(7, 3, 2, 4).unbind(1)
    answers = []
    for head in range(2):
        scores = q[:, head] @ k[:, head].T / 2 + attention.position_bias()[head]
        answers.append(scores.exp() / scores.exp().sum(1, keepdim=True) @ v[:, head])
    torch.testing.assert_close(attention(x)[0], attention.proj(torch.cat(answers, 1)))


@torch.inference_mode()
def test_the_last_block_may_have_positions_though_only_its_first_tokens_are_read() -> None:
    """On every target, at a size that is not the network's own: the bias is that of the rows that are computed."""
    model, spec = tiny_model(relative_blocks=2)
    spec = msgspec.structs.replace(spec, preprocessing=spec.preprocessing.at_size(24, 40))
    model, image = model.double(), noise(1, 3, 24, 40, dtype=torch.float64)
    given = to_model_input(image, spec.preprocessing)
    for target in sorted(TARGETS):
        expected = as_target_computes_gelu(model, target)(given)
        torch.testing.assert_close(deploy(model, target, spec)(image), expected, rtol=1e-11, atol=1e-11)


def test_a_bare_file_of_ours_tells_its_blocks_and_heads() -> None:
    spec = tiny_networks.tiny_spec(
        "dearkd", dim=192, num_heads=12, depth=12, mlp_ratio=4, patch_size=16, relative_blocks=5
    )
    match = match_release(build_model(spec).state_dict(), None, "file")
    assert match.fits
    assert match.spec.model == "dearkd_tiny_patch16_224"
    assert match.spec.config["relative_blocks"] == 5


def test_a_learned_task_is_refused() -> None:
    with pytest.raises(RequestError, match="a task learns on a ViT, DeiT or DeepViT, not on DearKD"):
        tiny_model()[0].add_tasks((MemoryTask(name="pets", cells=2, num_classes=3),))
