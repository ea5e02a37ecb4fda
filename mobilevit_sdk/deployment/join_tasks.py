"""Tasks with learned memory as rows of the network's own tokens, and their memory as constant keys and values.

What a task's class token begins with is constant, as the network's own class token is: its row stands before theirs.
Memory tokens are read before the block's norm and answer nothing, so the keys W_k norm(memory) + b_k and the values
W_v norm(memory) + b_v are constants of the block. In each attention the rows of tasks see all rows, and all memory, but
for what belongs to tasks that they do not extend: the scores of that get -10,000, whose exponential is 0 in float32 and
in float16; where re-attention then adds a bias to a score of 0, it is multiplied by 0. The network's own rows see each
other, in a product of their own, so that nothing of a task can reach them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.token_classifier import JoinedClassifier
from mobilevit_sdk.layers import FirstTokens, PatchTokens, TaskMemory, TransformerBlock
from mobilevit_sdk.models.vit import ViT

UNSEEN = -1e4


class MemoryRows(nn.Module):
    """Of one attention: how many rows are those of tasks, and the keys and values of memory.

    `keys` are [1, heads, M, key_dim] and `values` [1, heads, M, value_dim], None for tasks without memory; `mask` is
    [tasks, tasks + N + M], N being the network's own rows, or None where every task sees all.
    """

    keys: Tensor | None
    values: Tensor | None
    mask: Tensor | None

    def __init__(self, tasks: int, keys: Tensor | None, values: Tensor | None, mask: Tensor | None) -> None:
        super().__init__()
        self.tasks = tasks
        self.register_buffer("keys", None if keys is None else keys.contiguous())
        self.register_buffer("values", None if values is None else values.contiguous())
        self.register_buffer("mask", None if mask is None else mask.contiguous())

    def visible(self) -> Tensor | None:
        """The mask as factors, 1 for what is seen."""
        return None if self.mask is None else (self.mask == 0).to(self.mask.dtype)


class TaskHeads(nn.Module):
    """The network's classifier and a head for each task. Shapes: [B, tasks + p, C] -> [B, classes] of each."""

    def __init__(self, own: JoinedClassifier, tasks: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.own = own
        self.tasks = nn.ModuleList(tasks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        heads = enumerate(self.tasks)
        return (self.own(x[:, len(self.tasks) :]), *(head(x[:, i : i + 1].flatten(1)) for i, head in heads))


@torch.no_grad()
def join_tasks(network: nn.Module, image_size: tuple[int, int]) -> None:
    """Give a ViT with tasks the form of one without, for images of that size in pixels, in place.

    Its norms are LayerNorms still, its Attentions what they are in the reference form, and its classifier is joined.
    """
    if not isinstance(network, ViT) or not network.tasks:
        return
    tasks = cast("list[TaskMemory]", list(network.tasks))
    own = sum(_with_task_rows(network.tokens, tasks, image_size))
    mask = _mask(tasks, own)
    for index, block in enumerate(cast("list[TransformerBlock]", list(network.blocks))):
        block.attention.memory = _memory_rows(block, tasks, index, mask)
    network.first = FirstTokens(len(tasks) + network.first.count)
    assert isinstance(network.head, JoinedClassifier)
    network.head = TaskHeads(network.head, [task.head for task in tasks])
    network.tasks = None


def _with_task_rows(tokens: PatchTokens, tasks: list[TaskMemory], image_size: tuple[int, int]) -> tuple[int, int]:
    """Put the tokens of tasks before the others, in place; how many the others are: before the patches, and patches."""
    grid = image_size[0] // tokens.patch_size, image_size[1] // tokens.patch_size
    prefix: Tensor = tokens.prefix
    positions = tokens.positions_at(grid)
    count = len(prefix)
    if tokens.prefix_positions:
        prefix, positions = prefix + positions[:, :count].transpose(0, 1), positions[:, count:]
    tokens.prefix = nn.Parameter(torch.cat([*(task.token for task in tasks), prefix]), requires_grad=False)
    tokens.positions = nn.Parameter(positions.clone(), requires_grad=False)
    tokens.grid, tokens.prefix_positions = grid, False
    return count, grid[0] * grid[1]


def _memory_rows(block: TransformerBlock, tasks: list[TaskMemory], index: int, mask: Tensor | None) -> MemoryRows:
    attention = block.attention
    memory = [task.memory[index] for task in tasks if task.memory is not None]
    dtype = attention.qkv.weight.dtype
    keys = values = None
    if memory:
        norm, qkv = block.norm1.double(), attention.qkv.double()
        rows = qkv(norm(torch.cat(memory).double())).to(dtype)
        block.norm1.to(dtype)
        attention.qkv.to(dtype)
        size, width = attention.num_heads * attention.key_dim, attention.num_heads * attention.value_dim
        _, keys, values = (
            part.unflatten(1, (attention.num_heads, -1)).transpose(0, 1)[None]
            for part in rows.split((size, size, width), 1)
        )
    return MemoryRows(len(tasks), keys, values, None if mask is None else mask.to(dtype))


def _mask(tasks: list[TaskMemory], own: int) -> Tensor | None:
    """What to add to the scores of tasks, [tasks, tasks + own + M]; None where each task sees all that there is."""
    of_tasks = [task.name for task in tasks]
    of_memory = [task.name for task in tasks if task.memory is not None for _ in task.memory[0]]
    rows = []
    for task in tasks:
        seen = {task.name, *task.extends}
        rows.append([name in seen for name in of_tasks] + [True] * own + [name in seen for name in of_memory])
    visible = torch.tensor(rows)
    return None if visible.all() else torch.where(visible, 0.0, UNSEEN)
