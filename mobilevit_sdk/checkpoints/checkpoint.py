"""Checkpoints: one safe file that holds a network's weights and everything that is needed to use them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import safetensors.torch
import torch
from torch import nn

from mobilevit_sdk.checkpoints.tensor_file import FileVersion
from mobilevit_sdk.files import portable, replacing
from mobilevit_sdk.spec import ModelSpec, Origin, TaskOrigin

HEADER_KEY = "mobilevit_sdk"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network in reference form and eval mode, and what is known of it."""

    model: nn.Module
    spec: ModelSpec
    layout: str  # "own", or the release whose names the file uses: "ml-cvnets", "cream", "timm", "transformers"
    source: str  # as it was asked for
    file: FileVersion | None = None  # None for random weights
    random_weights_seed: int | None = None
    tasks: tuple[FileVersion, ...] = ()  # the files of the tasks that were added to it
    notes: tuple[str, ...] = ()  # in words, what was not taken as it stands in the file
    # Of several image sizes, `model` is the network at the first: all are made from this one, at the size of the file.
    stored: tuple[nn.Module, ModelSpec] | None = None

    @property
    def own(self) -> tuple[nn.Module, ModelSpec]:
        """The network that those of all its image sizes are made from, and its spec."""
        return self.stored or (self.model, self.spec.entries[0])

    def networks(self) -> list[nn.Module]:
        """One for each of its image sizes, `model` first."""
        if not self.spec.image_sizes:
            return [self.model]
        from mobilevit_sdk.models.resize import networks_at_sizes

        return networks_at_sizes(*self.own, self.spec)

    @cached_property
    def sha256(self) -> str | None:
        """Of the weights' file, read when first asked for; None for random weights.

        Raises CheckpointError where the file has changed since it was loaded.
        """
        return None if self.file is None else self.file.sha256()

    @property
    def origin(self) -> Origin:
        """Where the weights came from; an absolute path is left out but for its name."""
        return Origin(
            source=portable(self.source),
            layout=self.layout,
            sha256=self.sha256,
            random_weights_seed=self.random_weights_seed,
            tasks=tuple(TaskOrigin(portable(file.source), file.sha256()) for file in self.tasks) or msgspec.UNSET,
        )


def save_checkpoint(
    model: nn.Module, spec: ModelSpec, path: Path | str, *, matrix_dtype: torch.dtype | None = None
) -> None:
    """Write weights and spec to one `.safetensors` file, atomically. Raises RequestError where it cannot be written.

    With `matrix_dtype`, kernels and matrices are stored in it, which halves the file for float16; biases, gains and
    statistics keep their own type. The spec is that of one image size, the first.
    """
    spec = spec.entries[0]
    weights = {
        name: tensor.detach().cpu().to(matrix_dtype if matrix_dtype and tensor.ndim > 1 else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    header = {HEADER_KEY: msgspec.json.encode(spec).decode()}  # one key: safetensors keeps no order of several
    with replacing(Path(path)) as fresh:
        fresh.write_bytes(safetensors.torch.save(weights, metadata=header))


def network_sha256(model: nn.Module, spec: ModelSpec) -> str:
    """Of all that decides what a network answers: config, preprocessing and weights."""
    digest = hashlib.sha256(spec.config_sha256.encode() + msgspec.json.encode(spec.preprocessing))
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
