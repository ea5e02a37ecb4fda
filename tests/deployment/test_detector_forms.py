"""A detector's attention with constants, layers and heads: each form computes the same alone, in float64."""

from __future__ import annotations

import pytest
import torch
from helpers import randomize
from torch import Tensor, nn

from mobilevit_sdk.deployment.channels_first.objects import ChannelsFirstPlacedAttention, ObjectHead
from mobilevit_sdk.deployment.constant_positions import PlacedAttention, PlacedSetTransformer
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import CrossAttention, DecoderLayer, EncoderLayer, SetTransformer

EXACT = {"rtol": 1e-11, "atol": 1e-11}


def tensor(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random(layer: nn.Module) -> nn.Module:
    return randomize(layer, 1).double().eval().requires_grad_(False)


def as_map(rows: Tensor) -> Tensor:
    """[1, N, C] -> [1, C, 1, N]."""
    return rows.transpose(1, 2)[:, :, None]


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("asking", [False, True], ids=["tokens ask", "constants ask"])
def test_attention_with_constant_positions_is_exact_in_rows_and_channels_first(rank: int, asking: bool) -> None:
    attention = random(CrossAttention(12, 3, key_dim=5, value_dim=2))
    queries, keys, x, tokens = tensor(1, 4, 12), tensor(1, 7, 12, seed=1), tensor(1, 4, 12, seed=2), tensor(1, 7, 12)
    placed = PlacedAttention(attention, queries, keys, rank, asking=asking).double()
    expected = attention(queries if asking else x + queries, tokens + keys, tokens)
    given = None if asking else x
    torch.testing.assert_close(placed(given, tokens), expected, **EXACT)
    channels_first = ChannelsFirstPlacedAttention(placed)
    found = channels_first(None if given is None else as_map(given), as_map(tokens))
    torch.testing.assert_close(found, as_map(expected), **EXACT)


def test_heads_of_objects_in_the_layout_answer_in_rows() -> None:
    head = random(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Sigmoid()))
    objects = tensor(1, 3, 6)
    torch.testing.assert_close(ObjectHead(head)(as_map(objects)), head(objects), **EXACT)


def test_the_first_layer_reads_no_objects() -> None:
    """They begin as zeros, so that attention between them and its norm are one constant."""

    def attention() -> CrossAttention:
        return CrossAttention(8, 2, 4, 4)

    encoder = nn.Sequential(EncoderLayer(attention(), 12))
    decoder = nn.Sequential(*(DecoderLayer(attention(), attention(), 12) for _ in range(2)))
    transformer = random(SetTransformer(8, 3, encoder, decoder))
    network = nn.Sequential(transformer)
    image = tensor(1, 8, 2, 3)
    expected = transformer(image)
    replace_layers(network, SetTransformer, lambda each: PlacedSetTransformer(each, (2, 3), 3))
    assert network[0].decoder[0].attention is None
    torch.testing.assert_close(network(image), expected, **EXACT)
