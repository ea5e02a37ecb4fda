"""Torch-Pruning as its users run it (https://github.com/VainF/Torch-Pruning, `pip install torch-pruning`).

It uses its GroupTaylorImportance over the whole network: channels in multiples of 8, heads of attention kept, the
classifier left alone, gradients of the same images, measured again in each of many small steps. It prunes modules in
place, so code that computes with sizes stored at construction does not run afterwards, and its graph (1.6.1) does not
follow split tensors (an index out of bounds). Attention is therefore replaced by an equivalent form with separate
layers for queries, keys and values, which reads every size off its layers and slices instead of splitting. Channels
through cascaded attention remain too much for it: grouping them had not finished after five minutes. There it prunes
what it can follow, the channels within the stem, FFNs and patch mergings, and leaves the others alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment.linears import linear
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import Attention, CascadedGroupAttention, ConvNormAct, PositionBias
from mobilevit_sdk.pruning import PruningImages

STEPS = 16  # to nothing: a sixteenth of the channels each


class SplitAttention(nn.Module):
    """`Attention` with separate layers for queries, keys and values."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        keys = attention.num_heads * attention.key_dim
        self.num_heads = attention.num_heads
        self.q = linear(attention.qkv, slice(0, keys))
        self.k = linear(attention.qkv, slice(keys, 2 * keys))
        self.v = linear(attention.qkv, slice(2 * keys, None))
        self.position_bias = attention.position_bias
        self.proj = attention.proj

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = (part(x).view(batch, tokens, self.num_heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        bias = None if self.position_bias is None else self.position_bias()
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)
        out: Tensor = self.proj(x.reshape(batch, tokens, -1))
        return out


class SplitCascade(nn.Module):
    """`CascadedGroupAttention`, likewise; each head reads as many channels as its layers have."""

    def __init__(self, attention: CascadedGroupAttention) -> None:
        super().__init__()
        self.window_size = attention.window_size
        self.partition, self.reverse = attention.partition, attention.reverse
        self.position_bias, self.proj = attention.position_bias, attention.proj
        self.token_interaction = nn.ModuleList(attention.token_interaction.values())
        self.q, self.k, self.v = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        d = attention.key_dim
        for qkv in attention.qkv.values():
            for part, rows in ((self.q, slice(0, d)), (self.k, slice(d, 2 * d)), (self.v, slice(2 * d, None))):
                part.append(_rows(qkv, rows))

    def forward(self, x: Tensor) -> Tensor:
        maps = x.permute(0, 2, 3, 1)
        channels, w = x.shape[1], self.window_size
        windows = self.partition(maps).transpose(1, 2).reshape(-1, channels, w, w)
        ends = list(accumulate(layer.conv.in_channels for layer in self.q))
        groups = [windows[:, start:end] for start, end in zip([0, *ends], ends, strict=False)]
        answers: list[Tensor] = []
        for i, bias in enumerate(self.position_bias()):
            x = groups[i] + answers[-1] if answers else groups[i]
            q = self.token_interaction[i](self.q[i](x))
            q, k, v = (each.flatten(2).transpose(1, 2)[:, None] for each in (q, self.k[i](x), self.v[i](x)))
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            answers.append(attended[:, 0].transpose(1, 2).reshape(len(x), -1, w, w))
        windows = self.proj(F.relu(torch.cat(answers, 1)))
        return self.reverse(windows.flatten(2).transpose(1, 2), maps.shape).permute(0, 3, 1, 2)


def _rows(layer: ConvNormAct, rows: slice) -> ConvNormAct:
    """Some of the channels that a convolution and its norm write."""
    part = copy.deepcopy(layer)
    for name, tensor in (("weight", part.conv), *((name, part.norm) for name in ("weight", "bias"))):
        setattr(tensor, name, nn.Parameter(getattr(tensor, name).detach()[rows].clone()))
    part.norm.running_mean, part.norm.running_var = part.norm.running_mean[rows], part.norm.running_var[rows]
    part.conv.out_channels = part.norm.num_features = len(part.norm.weight)
    return part


def _left_alone(model: nn.Module) -> list[nn.Module | nn.Parameter]:
    """The classifier and position biases; and with cascaded attention, what writes channels that run through it."""
    left: list[nn.Module | nn.Parameter] = [m.table for m in model.modules() if isinstance(m, PositionBias)]
    cascaded = any(isinstance(layer, SplitCascade) for layer in model.modules())
    for name, layer in model.named_modules():
        within = any(part in name for part in (".expand.", "squeeze_excite", "patch_embed.0", "patch_embed.1"))
        if name.startswith("head") or (cascaded and isinstance(layer, nn.Conv2d) and not within):
            left.append(layer)
    return left


def pruned_in_steps(model: nn.Module, image_size: tuple[int, int], images: PruningImages) -> Iterator[nn.Module]:
    """What is left after each step; the same module each time. `model` stays as it is."""
    import torch_pruning as tp

    model = copy.deepcopy(model).eval().requires_grad_(True)
    replace_layers(model, Attention, SplitAttention)
    replace_layers(model, CascadedGroupAttention, SplitCascade)
    attentions = [layer for layer in model.modules() if isinstance(layer, SplitAttention)]
    pruner = tp.pruner.BasePruner(
        model,
        example_inputs=torch.rand(1, 3, *image_size),
        importance=tp.importance.GroupTaylorImportance(),
        global_pruning=True,
        pruning_ratio=1.0,
        max_pruning_ratio=0.9,
        iterative_steps=STEPS,
        round_to=8,
        ignored_layers=_left_alone(model),
        num_heads={part: layer.num_heads for layer in attentions for part in (layer.q, layer.k, layer.v)},
    )
    for _ in range(STEPS):
        model.zero_grad()
        for batch, labels in images.batches(64):
            (F.cross_entropy(model(batch), labels) * len(batch) / len(images)).backward()
        pruner.step()
        yield model
