"""The bottleneck network (He et al., ResNet, arXiv 1512.03385), as backbones of other tasks hold it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mobilevit_sdk.layers.conv import ConvNormAct


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with the statistics, gains and biases of its pretraining: batches of few images would spoil them."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)
        self.weight.requires_grad = False  # as a value: it also holds where tensors are not made yet
        self.bias.requires_grad = False
        self.train(False)

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:
        """Stay in eval mode, whatever is asked for."""
        return super().train(False)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut; the 3x3 has the stride, as torchvision has it.

    Shapes: [B, in_channels, H, W] -> [B, out_channels, ceil(H / stride), ceil(W / stride)]. `within` are the channels
    that the first two convolutions write. The `first` of a stage has a convolution as its shortcut, too.
    """

    def __init__(
        self,
        in_channels: int,
        within: tuple[int, int],
        out_channels: int,
        *,
        first: bool,
        stride: int = 1,
        dilation: int = 1,
        frozen_norm: bool = False,
    ) -> None:
        super().__init__()
        norm: type[nn.BatchNorm2d] = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        self.reduce = ConvNormAct(in_channels, within[0], 1, activation=nn.ReLU, norm=norm)
        self.conv = ConvNormAct(*within, 3, stride=stride, dilation=dilation, activation=nn.ReLU, norm=norm)
        self.expand = ConvNormAct(within[1], out_channels, 1, activation=None, norm=norm)
        self.shortcut: nn.Module = nn.Identity()
        if first:
            self.shortcut = ConvNormAct(in_channels, out_channels, 1, stride=stride, activation=None, norm=norm)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.expand(self.conv(self.reduce(x))) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """All of ResNet but its classifier. Shapes: [B, in_channels, H, W] -> [B, channels, ceil(H / 32), ceil(W / 32)].

    `stages` are the channels of the stem's map and of each stage's, `bottlenecks` those within each bottleneck of each
    stage, or None for one that is not there. With `dilated` the last stage dilates its kernels instead of its stride,
    so that the map has twice the height and width (DC5).
    """

    def __init__(
        self,
        in_channels: int,
        stages: Sequence[int],
        bottlenecks: Sequence[Sequence[tuple[int, int] | None]],
        *,
        dilated: bool = False,
        frozen_norm: bool = False,
    ) -> None:
        super().__init__()
        norm: type[nn.BatchNorm2d] = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        channels = stages[0]
        self.stem = ConvNormAct(in_channels, channels, 7, stride=2, activation=nn.ReLU, norm=norm)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.stages = nn.Sequential()
        for stage, (out, every) in enumerate(zip(stages[1:], bottlenecks, strict=True)):
            blocks, dilates = nn.Sequential(), dilated and stage == len(bottlenecks) - 1
            for number, within in enumerate(every):
                if within is None:  # leaves a gap in the numbering
                    continue
                # The first block of a dilated stage still looks as near as the stage before it.
                dilation = 2 if dilates and number else 1
                stride = 2 if stage and not dilates and not number else 1
                block = Bottleneck(
                    channels,
                    within,
                    out,
                    first=not number,
                    stride=stride,
                    dilation=dilation,
                    frozen_norm=frozen_norm,
                )
                blocks.add_module(str(number), block)
                channels = out
            self.stages.append(blocks)
        self.channels = channels  # of the map that it returns

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.stages(self.pool(self.stem(x)))
        return out
