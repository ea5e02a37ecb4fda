"""How far attention reaches: the definition on constructed maps, in networks, and through a training."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
import torch
from labeled_images import NAMES, pictures, write_parquet
from tiny_networks import noise, tiny_model, tiny_spec

from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.attention_distance import attention_distance, attention_distances, attention_maps
from mobilevit_sdk.layers import RelativePositions
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.training import Recipe, Trainer
from mobilevit_sdk.training.curves import plot_attention_distances


def _maps(rows: int, columns: int, prefix: int, target) -> torch.Tensor:
    """Each patch attends to the patch `target(y, x)` with half of its attention, and to the tokens before them."""
    count = prefix + rows * columns
    maps = torch.zeros(count, count)
    maps[:, :prefix] = 0.5 / prefix
    for y in range(rows):
        for x in range(columns):
            other = target(y, x)
            maps[prefix + y * columns + x, prefix + other[0] * columns + other[1]] += 0.5
    return maps


def test_distances_are_those_of_the_centers_of_patches_in_pixels() -> None:
    here = _maps(3, 4, 2, lambda y, x: (y, x))
    beside = _maps(3, 4, 2, lambda y, x: (y, (x + 1) % 4))
    across = _maps(3, 4, 2, lambda y, x: (2 - y, 3 - x))
    assert attention_distance(here, (3, 4), 16) == 0
    assert attention_distance(beside, (3, 4), 16) == pytest.approx(16 * (1 + 1 + 1 + 3) / 4)
    wide = [math.hypot(2 - 2 * y, 3 - 2 * x) for y in range(3) for x in range(4)]
    assert attention_distance(across, (3, 4), 16) == pytest.approx(16 * sum(wide) / 12)
    both = torch.stack([here, across])[None]  # two heads
    assert attention_distance(both, (3, 4), 8) == pytest.approx(8 * sum(wide) / 24)


def test_even_attention_reaches_the_mean_distance_of_all_pairs() -> None:
    places = [(y, x) for y in range(2) for x in range(3)]
    pairs = [math.dist(one, other) for one in places for other in places]
    maps = torch.full((7, 7), 1 / 7)
    assert attention_distance(maps, (2, 3), 4) == pytest.approx(4 * sum(pairs) / 36)


@pytest.mark.parametrize("family", ["vit", "dearkd", "deepvit", "navit"])
@torch.inference_mode()
def test_maps_are_those_that_the_network_computes_with(family: str) -> None:
    """softmax(q k + bias) v, with these maps, is what each attention answers."""
    model, _ = tiny_model(family)
    x, answers = noise(2, 3, 32, 48), []
    layers = [block.attention for block in model.blocks]
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: answers.append((layer, inputs[0], output)))
        for layer in layers
    ]
    maps = attention_maps(model, x)
    for hook in hooks:
        hook.remove()
    for own, (layer, tokens, output) in zip(maps, answers, strict=True):
        used = own if layer.mixing is None else layer.mixing(own)
        values = layer.project(tokens)[2]
        torch.testing.assert_close(layer.proj((used @ values).transpose(1, 2).flatten(2)), output)


@torch.inference_mode()
def test_a_block_that_begins_as_a_convolution_reaches_less_far_than_one_without_positions() -> None:
    torch.manual_seed(0)
    model = build_model(tiny_spec("dearkd", dim=36, num_heads=9)).eval()
    first, second = attention_distances(model, noise(4, 3, 64, 64), 8)
    assert first < 0.6 * second
    positions = model.blocks[0].attention.position_bias
    assert isinstance(positions, RelativePositions)
    alone = attention_distance(positions((8, 8)).softmax(-1), (8, 8), 8)
    assert first == pytest.approx(alone, rel=0.1)  # fresh weights give scores near 0 to content


def test_a_training_writes_the_distance_of_each_block_after_each_epoch(tmp_path: Path) -> None:
    data = open_dataset(write_parquet(tmp_path / "a.parquet", pictures(10, size=32)), labeled=True)
    spec = msgspec.structs.replace(tiny_spec("dearkd"), labels=NAMES)
    recipe = Recipe(epochs=2, batch_size=10, attention_distance=True)
    trainer = Trainer(build_model(spec), spec, recipe, data, data, tmp_path / "out", device=torch.device("cpu"))
    result = trainer.run()
    assert len(result.attention_distance) == 2
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [len(row["attention_distance"]) for row in rows] == [2, 2]
    assert trainer.history()[-1].attention_distance == tuple(rows[-1]["attention_distance"])
    assert (tmp_path / "out" / "attention.png").read_bytes().startswith(b"\x89PNG")
    plot_attention_distances(trainer.history(), tmp_path / "again.png", title="again")


def test_it_is_refused_for_networks_of_other_tokens(tmp_path: Path) -> None:
    for family in ("mobilevit", "tiny_vit", "efficientvit"):
        model, spec = tiny_model(family)
        with pytest.raises(RequestError, match="measured of networks whose tokens are the patches of an image"):
            attention_distances(model, noise(1, 3, *spec.preprocessing.image_size), 4)
