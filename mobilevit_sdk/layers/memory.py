"""Learnable memory: further tasks on a trained vision transformer, none of whose answers changes.

Sandler et al., "Fine-tuning Image Transformers using Learnable Memory", CVPR 2022, https://arxiv.org/abs/2203.15243.
A task learns a class token, a few memory tokens in each block, and a head. In a block its class token is the only query
of its own: it attends to itself, to all tokens of the network and to the task's memory (Table 1 of the paper: the
queries of the network see none of that). Memory is read before the block's norm and not passed on. So the tokens of the
network are what they are without tasks, to the bit, and tasks that do not extend each other are blind to each other:
they can be trained apart, put together, and taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mobilevit_sdk.layers.transformer import TransformerBlock


class TaskMemory(nn.Module):
    """What one task learned: its class token [1, 1, dim], memory [blocks, cells, dim] and head.

    It is an empty shell around these tensors; a network runs it by `run_with_tasks`.
    """

    memory: nn.Parameter | None

    def __init__(
        self, name: str, num_classes: int, cells: int, dim: int, blocks: int, *, extends: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.name, self.extends = name, tuple(extends)
        self.token = nn.Parameter(torch.empty(1, 1, dim))
        memory = nn.Parameter(torch.empty(blocks, cells, dim)) if cells else None
        self.register_parameter("memory", memory)
        self.head = nn.Linear(dim, num_classes)
        for table in self.no_decay():
            nn.init.normal_(table, std=0.02)  # section 3 of the paper
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def no_decay(self) -> tuple[nn.Parameter, ...]:
        """Token and memory, which are what a network's own tokens and positions are."""
        return (self.token,) if self.memory is None else (self.token, self.memory)


def run_with_tasks(
    blocks: Iterable[TransformerBlock], x: Tensor, tasks: Sequence[TaskMemory]
) -> tuple[Tensor, list[Tensor]]:
    """Shapes: [B, N, dim] -> the same after all blocks, and the class token of each task, [B, 1, dim].

    A task that extends others sees their class tokens and memory as well: the paper's extension. Tasks that do not are
    its concatenation. The keys and values of the network's own tokens are computed once for all tasks, and where its
    weights are frozen, gradients pass through none of its tokens: training a task costs little more than its answers.
    """
    tokens = first_tokens(tasks, x.shape[0])
    for index, block in enumerate(blocks):
        own = block.attention.project(block.norm1(x))
        run_tasks_in_block(block, index, own, tokens, tasks)
        x = block.add(x, block.attention.attend(*own))
    return x, list(tokens.values())


def first_tokens(tasks: Sequence[TaskMemory], batch: int) -> dict[str, Tensor]:
    """The class token of each task, by its name, before the first block: [B, 1, dim]."""
    return {task.name: task.token.expand(batch, -1, -1) for task in tasks}


def run_tasks_in_block(
    block: TransformerBlock,
    index: int,
    own: tuple[Tensor, Tensor, Tensor],
    tokens: dict[str, Tensor],
    tasks: Sequence[TaskMemory],
) -> None:
    """Take the class tokens of tasks, in place, through the block at `index`, whose own tokens project to `own`."""
    attention, norm, batch = block.attention, block.norm1, len(own[0])
    rows = {task.name: [attention.project(norm(tokens[task.name]))] for task in tasks}
    for task in tasks:
        if task.memory is not None:
            q, k, v = attention.project(norm(task.memory[index : index + 1]))
            rows[task.name].append((q, k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)))
    for task in tasks:
        seen = [own, *(each for name in (task.name, *task.extends) for each in rows[name])]
        keys, values = (torch.cat([each[part] for each in seen], 2) for part in (1, 2))
        query = rows[task.name][0][0]
        tokens[task.name] = block.add(tokens[task.name], attention.attend(query, keys, values))
