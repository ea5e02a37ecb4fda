"""Tasks with learned memory as rows of the network's own tokens: identities in float64, over every target."""

from __future__ import annotations

import copy

import pytest
import torch
from family_contract import as_target_computes_gelu
from helpers import sampled
from tiny_networks import noise, phone_checkpoint, with_tasks

from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, audit, deploy
from mobilevit_sdk.layers.memory import run_with_tasks
from mobilevit_sdk.spec import MemoryTask

PETS = MemoryTask(name="pets", num_classes=7, cells=3)
FOOD = MemoryTask(name="food", num_classes=4, cells=2, extends=("pets",))
CARS = MemoryTask(name="cars", num_classes=3, cells=0)


def _in_double(checkpoint):
    network = copy.deepcopy(checkpoint.model).double().requires_grad_(False)
    height, width = checkpoint.spec.preprocessing.image_size
    return network, noise(1, 3, height, width, dtype=torch.float64)


@pytest.mark.parametrize("tasks", [(PETS,), (PETS, FOOD, CARS)], ids=["one", "three"])
@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("family", sampled(["vit", "deepvit"], "vit"))
def test_phone_graphs_answer_all_tasks(family, target, tasks):
    checkpoint = with_tasks(phone_checkpoint(family), *tasks)
    network, image = _in_double(checkpoint)
    expected = as_target_computes_gelu(network, target)(to_model_input(image, checkpoint.spec.preprocessing))
    graph = deploy(network, target, checkpoint.spec)
    for answer, wanted in zip(graph(image), expected, strict=True):
        torch.testing.assert_close(answer, wanted, rtol=1e-9, atol=1e-9 * float(wanted.abs().max()))
    assert audit(graph.float(), target, checkpoint.spec.preprocessing.image_size) == []


@pytest.mark.parametrize("family", ["vit", "deepvit"])
def test_the_network_answers_to_the_bit_what_it_does_without_tasks(family):
    alone = phone_checkpoint(family)
    image = noise(2, 3, *alone.spec.preprocessing.image_size)
    assert torch.equal(with_tasks(alone, PETS, FOOD, CARS).model(image)[0], alone.model(image))


@pytest.mark.parametrize("family", ["vit", "deepvit"])
def test_tasks_see_their_own_memory_and_that_of_those_that_they_extend(family):
    """A change of one task's memory reaches it and what extends it, in the reference and in the phone graph."""
    checkpoint = with_tasks(phone_checkpoint(family), PETS, FOOD, CARS)
    network, image = _in_double(checkpoint)
    given = to_model_input(image, checkpoint.spec.preprocessing)
    before = network(given), deploy(network, "xnnpack", checkpoint.spec)(image)
    with torch.no_grad():
        network.tasks[0].memory.mul_(-3)
        network.tasks[0].token.mul_(-3)
    after = network(given), deploy(network, "xnnpack", checkpoint.spec)(image)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[0], new[0])  # the network's own classes
        assert torch.equal(old[3], new[3])  # cars
        assert (old[1] - new[1]).abs().max() > 1e-3  # pets
        assert (old[2] - new[2]).abs().max() > 1e-4  # food extends pets


def test_memory_is_read_before_the_norm_and_answers_nothing():
    """Against the paper's description written out: attention over all rows with a mask, memory rows dropped after."""
    checkpoint = with_tasks(phone_checkpoint("vit"), PETS)
    network, image = _in_double(checkpoint)
    x = network.tokens(to_model_input(image, checkpoint.spec.preprocessing))
    rows = torch.cat([x, network.tasks[0].token], 1)
    count = rows.shape[1]
    for block, memory in zip(network.blocks, network.tasks[0].memory, strict=True):
        seen = torch.cat([rows, memory[None]], 1)
        mask = torch.ones(count, seen.shape[1], dtype=torch.bool)
        mask[: count - 1, count - 1 :] = False  # the network's own rows see neither the task's token nor its memory
        attention, normed = block.attention, block.norm1(seen)
        size = attention.num_heads * attention.key_dim
        q, k, v = (
            part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
            for part in attention.qkv(normed).split(size, 2)
        )
        scores = (q[:, :, :count] @ k.transpose(2, 3)) * attention.key_dim**-0.5
        answered = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v
        rows = rows + block.layer_scale1(attention.proj(answered.transpose(1, 2).flatten(2)))
        rows = rows + block.layer_scale2(block.mlp(block.norm2(rows)))
    own, (token,) = run_with_tasks(network.blocks, x, list(network.tasks))
    torch.testing.assert_close(own, rows[:, :-1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(token, rows[:, -1:], rtol=1e-12, atol=1e-12)
