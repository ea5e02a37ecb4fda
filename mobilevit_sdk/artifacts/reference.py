"""Reference vectors: cases and PyTorch's answers to them, stored beside every artifact."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.progress import Progress, counted, silent
from mobilevit_sdk.spec import ModelSpec, Preprocessing

if TYPE_CHECKING:
    from torch import nn

REFERENCE = "reference.safetensors"


@dataclass(frozen=True)
class Reference:
    """Cases and PyTorch's answers to them: `logits` float32 [cases, num_classes]."""

    cases: tuple[Case, ...]
    logits: np.ndarray
    images: str | None = None  # the folder or file that the cases are from; None for those stored beside an artifact

    def check(self, spec: ModelSpec) -> None:
        """Raise RequestError unless there are cases, uint8 [3, H, W] of the model's size, with finite answers."""
        if not self.cases:
            raise RequestError("no cases to verify with")
        shape = (3, *spec.preprocessing.image_size)
        for case in self.cases:
            if case.image.shape != shape or case.image.dtype != np.uint8:
                found = f"{case.image.dtype} {case.image.shape}"
                raise RequestError(f"{case.name!r} is {found}, expected uint8 {shape}: RGB with channels first")
        if self.logits.shape != (len(self.cases), spec.num_classes) or self.logits.dtype != np.float32:
            found = f"{self.logits.dtype} {self.logits.shape}"
            raise RequestError(f"logits are {found}, expected {spec.num_classes} classes in float32 for each case")
        if not np.isfinite(self.logits).all():
            raise RequestError("the logits are not finite, so nothing can be compared with them")


def write_reference(folder: Path, reference: Reference) -> None:
    """Store cases and answers as `images`, `logits` and, in the header, `cases`: [{"name", "contiguous"}]."""
    import safetensors.numpy

    cases = [{"name": case.name, "contiguous": case.contiguous} for case in reference.cases]
    tensors = {"images": np.stack([case.image for case in reference.cases]), "logits": reference.logits}
    (folder / REFERENCE).write_bytes(safetensors.numpy.save(tensors, metadata={"cases": json.dumps(cases)}))


def read_reference(path: Path, spec: ModelSpec) -> Reference:
    """Read what `write_reference` wrote. Raises ArtifactError when it is missing, malformed or does not fit `spec`."""
    import safetensors

    if not path.is_file():
        raise ArtifactError(f"{path} is missing; convert again to make reference vectors")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            images, logits = file.get_tensor("images"), file.get_tensor("logits")
            rows = json.loads(file.metadata()["cases"])
        cases = tuple(
            Case(str(row["name"]), image, bool(row["contiguous"])) for row, image in zip(rows, images, strict=True)
        )
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} does not hold reference vectors ({error})") from error
    reference = Reference(cases, logits)
    try:
        reference.check(spec)
    except RequestError as error:
        raise ArtifactError(f"{path}: {error}") from error
    return reference


def reference_of(
    model: nn.Module,
    preprocessing: Preprocessing,
    cases: tuple[Case, ...],
    progress: Progress = silent,
) -> Reference:
    """Cases with the answers of the reference model: in eval mode and float32, one image at a time.

    `progress` counts them.
    """
    import torch

    model, logits = model.eval(), []
    with torch.no_grad():
        for case in counted(cases, "computing PyTorch's answers", progress):
            logits.append(model(to_model_input(torch.from_numpy(case.image)[None], preprocessing))[0].numpy())
    return Reference(cases, np.stack(logits).astype(np.float32))
