"""Distillation of hidden layers: early blocks of a student learn to answer as early layers of its teacher do.

DearKD (arXiv 2204.12997, section 3.3): an aligner makes of a student's tokens a map like the teacher's, and the squared
difference is part of the loss. Aligners are for the training alone: they are in its state, not in its checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers.hooks import forward_hooks
from mobilevit_sdk.models.registry import model_config
from mobilevit_sdk.recipe import HiddenLayer
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.training.distillation import Teacher, layer_of

Size = tuple[int, int]


class Aligner(nn.Module):
    """1x1 convolution to the teacher's channels, its size by bilinear interpolation, depthwise convolution, norm, ReLU.

    Shapes: [B, channels, h, w] -> [B, teacher_channels, *size]. The norm is a LayerNorm over channels, place by place.
    The paper names the last three; the first two make channels and sizes meet.
    """

    def __init__(self, channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, teacher_channels, 1)
        self.depthwise = nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1, groups=teacher_channels)
        self.norm = nn.LayerNorm(teacher_channels)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        x = self.project(x)
        if tuple(x.shape[2:]) != size:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        x = self.depthwise(x)
        return F.relu(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class HiddenDistillation(nn.Module):
    """The aligners of a training, and what they compare. Raises RequestError for layers that do not answer with maps.

    `model` is the student of `spec`, on `device`, and in eval mode afterwards. The first weights come from `seed`.
    """

    def __init__(
        self,
        pairs: Sequence[HiddenLayer],
        model: nn.Module,
        spec: ModelSpec,
        teacher: Teacher,
        device: torch.device,
        seed: int,
    ) -> None:
        super().__init__()
        self.pairs, self.stride = pairs, model_config(spec).stride
        self._layers = [layer_of(model, each.student, spec.model) for each in pairs]  # in a list: no submodules
        self._taught = [teacher.layer(each.teacher) for each in pairs]
        size = spec.preprocessing.image_size
        images = torch.zeros(2, 3, *size, device=device)
        with torch.no_grad(), self.watch_teacher() as theirs, self.watch_student() as mine:
            teacher.scores(images)
            model.eval()(images.to(memory_format=torch.channels_last))
        self.aligners = nn.ModuleList()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for pair, own, other in zip(pairs, mine, theirs, strict=True):
                if other.ndim != 4:
                    raise RequestError(
                        f"the teacher's layer {pair.teacher} answers {list(other.shape)}, and hidden layers learn from "
                        f"maps [images, channels, height, width]: name another in `distillation.hidden`"
                    )
                channels = self._map(own, size, pair.student).shape[1]
                self.aligners.append(Aligner(channels, other.shape[1]).to(device, own.dtype))

    @contextmanager
    def watch_teacher(self) -> Iterator[list[Tensor]]:
        """The maps that the teacher makes within the block, [B, C, h, w] each, once it has answered."""
        with _outputs(self._taught) as found:
            yield found

    @contextmanager
    def watch_student(self) -> Iterator[list[Tensor]]:
        """What the student's layers answer within the block."""
        with _outputs(self._layers) as found:
            yield found

    def forward(self, hidden: Sequence[Tensor], taught: Sequence[Tensor], size: Size) -> Tensor:
        """The sum of all weighed mean squared differences, for images of that size in pixels."""
        losses = []
        for pair, aligner, own, other in zip(self.pairs, self.aligners, hidden, taught, strict=True):
            dtype = next(aligner.parameters()).dtype  # of the weights, where the rest runs in bfloat16
            aligned = aligner(self._map(own, size, pair.student), tuple(other.shape[2:]))
            losses.append(pair.weight * F.mse_loss(aligned.to(dtype), other.to(dtype)))
        return torch.stack(losses).sum()

    def _map(self, x: Tensor, size: Size, name: str) -> Tensor:
        """What a layer of the student answers as a map; of tokens [B, N, C], those of patches, which are the last."""
        if x.ndim == 3 and x.shape[1] >= (count := math.prod(grid := (size[0] // self.stride, size[1] // self.stride))):
            return x[:, x.shape[1] - count :].transpose(1, 2).reshape(len(x), -1, *grid)
        if x.ndim != 4:
            raise RequestError(
                f"the student's layer {name} answers {list(x.shape)}, which are neither tokens of its patches nor a "
                f"map: name another in `distillation.hidden`"
            )
        return x


@contextmanager
def _outputs(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The outputs of each layer, in the order of `layers`, filled in as they run; of several runs, the last."""
    found: list[Tensor] = [torch.empty(0)] * len(layers)

    def keep(index: int, output: Tensor) -> None:
        found[index] = output

    hooks = [(layer, lambda _, __, output, index=index: keep(index, output)) for index, layer in enumerate(layers)]
    with forward_hooks(after=hooks):
        yield found
