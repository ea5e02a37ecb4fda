"""DETR under the authors' names, written from the description of their code: torch's own attention, plain modules."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        if stride > 1 or inputs != 4 * width:
            conv = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class _Body(nn.Module):
    def __init__(self, width: int, depths: tuple[int, ...], dilated: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        inputs, dilation = width, 1
        for stage, depth in enumerate(depths):
            stride, before = (1 if stage == 0 else 2), dilation
            if dilated and stage == 3:
                stride, dilation = 1, 2
            layers = nn.Sequential()
            for block in range(depth):
                first = block == 0
                layers.append(
                    _Bottleneck(inputs, width * 2**stage, stride if first else 1, before if first else dilation)
                )
                inputs = 4 * width * 2**stage
            setattr(self, f"layer{stage + 1}", layers)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(4):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, mlp: int, decodes: bool) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads)
        if decodes:
            self.multihead_attn = nn.MultiheadAttention(dim, heads)
        self.linear1, self.linear2 = nn.Linear(dim, mlp), nn.Linear(mlp, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        if decodes:
            self.norm3 = nn.LayerNorm(dim)

    def encode(self, x: Tensor, place: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(x + place, x + place, x)[0])
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))

    def decode(self, x: Tensor, query: Tensor, memory: Tensor, place: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(x + query, x + query, x)[0])
        x = self.norm2(x + self.multihead_attn(x + query, memory + place, memory)[0])
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


class OfficialDETR(nn.Module):
    """Images [B, 3, H, W] -> logits [B, queries, classes + 1] and boxes [B, queries, 4]; all of each image is valid."""

    def __init__(
        self,
        *,
        classes: int,
        dilated: bool = False,
        width: int = 8,
        depths: tuple[int, ...] = (1, 1, 1, 2),
        dim: int = 32,
        mlp: int = 48,
        queries: int = 6,
        encoder: int = 2,
        decoder: int = 2,
    ) -> None:
        super().__init__()
        self.backbone = nn.ModuleList([nn.ModuleDict({"body": _Body(width, depths, dilated)})])
        self.input_proj = nn.Conv2d(32 * width, dim, 1)
        self.query_embed = nn.Embedding(queries, dim)
        layers = [
            nn.ModuleList(_Layer(dim, 8, mlp, bool(i)) for _ in range(n)) for i, n in enumerate((encoder, decoder))
        ]
        self.transformer = nn.ModuleDict(
            {
                "encoder": nn.ModuleDict({"layers": layers[0]}),
                "decoder": nn.ModuleDict({"layers": layers[1], "norm": nn.LayerNorm(dim)}),
            }
        )
        self.class_embed = nn.Linear(dim, classes + 1)
        boxes = [nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, 4)]
        self.bbox_embed = nn.ModuleDict({"layers": nn.ModuleList(boxes)})

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = self.input_proj(self.backbone[0]["body"](images))
        place = self.positions(found).flatten(2).permute(2, 0, 1)
        memory = found.flatten(2).permute(2, 0, 1)
        for layer in self.transformer["encoder"]["layers"]:
            memory = layer.encode(memory, place)
        query = self.query_embed.weight[:, None].expand(-1, len(images), -1)
        objects = torch.zeros_like(query)
        for layer in self.transformer["decoder"]["layers"]:
            objects = layer.decode(objects, query, memory, place)
        objects = self.transformer["decoder"]["norm"](objects).transpose(0, 1)
        box = objects
        for i, layer in enumerate(self.bbox_embed["layers"]):
            box = layer(box) if i == 2 else F.relu(layer(box))
        return self.class_embed(objects), box.sigmoid()

    def positions(self, found: Tensor) -> Tensor:
        """As the authors compute them: counts of valid pixels along each axis, scaled to 2 pi."""
        valid = torch.ones_like(found[:, 0])
        half = found.shape[1] // 2
        scale = 10000 ** (2 * (torch.arange(half, device=found.device) // 2) / half)
        halves = []
        for axis in (1, 2):
            counts = valid.cumsum(axis)
            counts = counts / (counts.narrow(axis, -1, 1) + 1e-6) * 2 * math.pi
            angles = counts[..., None] / scale
            pairs = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], 4).flatten(3)
            halves.append(pairs)
        return torch.cat(halves, 3).permute(0, 3, 1, 2)
