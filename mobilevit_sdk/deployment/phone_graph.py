"""The graph that an app calls, and its export."""

from __future__ import annotations

import copy
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

Answers = Tensor | tuple[Tensor, ...]  # of a network with one output or several


class PhoneGraph(nn.Module):
    """What an app calls: an RGB image in [0, 1], [1, 3, H, W] -> class scores (logits), [1, num_classes].

    A network with several outputs gives a tuple, in the order of the spec's `outputs`.
    """

    def __init__(self, image_size: tuple[int, int], normalization: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.image_size = image_size
        self.normalization = normalization
        self.network = network

    def forward(self, image: Tensor) -> Answers:
        answers: Answers = self.network(self.normalization(image))
        return answers

    @cached_property
    def program(self) -> ExportedProgram:
        """The exported graph; tracing takes seconds at published sizes, so it is done once, on first use."""
        return torch.export.export(self.eval(), (torch.zeros(1, 3, *self.image_size),))

    def __getstate__(self) -> dict[str, object]:
        """Without the exported graph: a copy may get other weights, and is traced anew."""
        return {name: value for name, value in self.__dict__.items() if name != "program"}


class InHalf(nn.Module):
    """A network in float16 between an image and answers in float32, as apps have and want them.

    Shapes: those of the network, of which it holds a copy.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, image: Tensor) -> Answers:
        answers: Answers = self.network(image.half())
        return tuple(each.float() for each in answers) if isinstance(answers, tuple) else answers.float()


def exported(graph: nn.Module, image_size: tuple[int, int]) -> ExportedProgram:
    """`graph` as torch.export traces it, for an image float32 [1, 3, H, W] with (H, W) = `image_size`.

    Raises what torch.export raises for a module that it cannot export.
    """
    if isinstance(graph, PhoneGraph) and graph.image_size == image_size:
        return graph.program
    return torch.export.export(graph.eval(), (torch.zeros(1, 3, *image_size),))
