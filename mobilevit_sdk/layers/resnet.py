"""The bottleneck network (He et al., ResNet, arXiv 1512.03385), as backbones of other tasks hold it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mobilevit_sdk.layers.conv import ConvNormAct

_EXPANSION = 4


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

    Shapes: [B, in_channels, H, W] -> [B, 4 channels, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1, frozen_norm: bool = False
    ) -> None:
        super().__init__()
        norm: type[nn.BatchNorm2d] = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        out_channels = _EXPANSION * channels
        self.reduce = ConvNormAct(in_channels, channels, 1, activation=nn.ReLU, norm=norm)
        self.conv = ConvNormAct(channels, channels, 3, stride=stride, dilation=dilation, activation=nn.ReLU, norm=norm)
        self.expand = ConvNormAct(channels, out_channels, 1, activation=None, norm=norm)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = ConvNormAct(in_channels, out_channels, 1, stride=stride, activation=None, norm=norm)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.expand(self.conv(self.reduce(x))) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """All of ResNet but its classifier. Shapes: [B, in_channels, H, W] -> [B, channels, ceil(H / 32), ceil(W / 32)].

    `depths` counts the bottlenecks of each stage, whose widths are `width` and its doubles. With `dilated` the last
    stage dilates its kernels instead of its stride, so that the map has twice the height and width (DC5).
    """

    def __init__(
        self, in_channels: int, width: int, depths: Sequence[int], *, dilated: bool = False, frozen_norm: bool = False
    ) -> None:
        super().__init__()
        norm: type[nn.BatchNorm2d] = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        self.stem = ConvNormAct(in_channels, width, 7, stride=2, activation=nn.ReLU, norm=norm)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.stages = nn.Sequential()
        channels = width
        for stage, depth in enumerate(depths):
            blocks, own = nn.Sequential(), width * 2**stage
            dilates = dilated and stage == len(depths) - 1
            for block in range(depth):
                # The first block of a dilated stage still looks as near as the stage before it.
                dilation = 2 if dilates and block else 1
                stride = 2 if stage and not dilates and not block else 1
                blocks.append(Bottleneck(channels, own, stride=stride, dilation=dilation, frozen_norm=frozen_norm))
                channels = _EXPANSION * own
            self.stages.append(blocks)
        self.channels = channels  # of the map that it returns

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.stages(self.pool(self.stem(x)))
        return out
