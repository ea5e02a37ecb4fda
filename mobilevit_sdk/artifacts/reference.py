"""Reference vectors: cases and PyTorch's answers to them, stored beside every artifact."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.data.cases import Case, Role
from mobilevit_sdk.errors import ArtifactError, CheckpointError, RequestError
from mobilevit_sdk.progress import Progress, counted, silent
from mobilevit_sdk.spec import ModelSpec, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mobilevit_sdk.layers.hooks import Hook

REFERENCE = "reference.safetensors"


@dataclass(frozen=True)
class Reference:
    """Cases and PyTorch's answers to them: `logits` float32 [cases, num_classes].

    Of a network that returns features, `logits` holds those, a row for each case, and `shape` is that of one answer.
    """

    cases: tuple[Case, ...]
    logits: np.ndarray
    shape: tuple[int, ...] | None = None  # of an answer; None: it is a row
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
        width = self.logits.shape[-1] if spec.features else spec.num_classes
        if self.logits.shape != (len(self.cases), width) or self.logits.dtype != np.float32:
            found = f"{self.logits.dtype} {self.logits.shape}"
            wanted = "a row of features" if spec.features else f"{spec.num_classes} classes"
            raise RequestError(f"{spec.output} are {found}, expected {wanted} in float32 for each case")
        if not np.isfinite(self.logits).all():
            raise RequestError(f"the {spec.output} are not finite, so nothing can be compared with them")


def write_reference(folder: Path, reference: Reference, spec: ModelSpec) -> None:
    """Store cases and answers as `images`, `logits` or `features`, and, in the header, `cases`.

    These are [{"name", "contiguous", "role"}].
    """
    import safetensors.numpy

    cases = [{"name": case.name, "contiguous": case.contiguous, "role": case.role} for case in reference.cases]
    answers = reference.logits.reshape(len(cases), *(reference.shape or (-1,)))
    tensors = {"images": np.stack([case.image for case in reference.cases]), spec.output: answers}
    (folder / REFERENCE).write_bytes(safetensors.numpy.save(tensors, metadata={"cases": json.dumps(cases)}))


def read_reference(path: Path, spec: ModelSpec) -> Reference:
    """Read what `write_reference` wrote. Raises ArtifactError when it is missing, malformed or does not fit `spec`."""
    import safetensors

    if not path.is_file():
        raise ArtifactError(f"{path} is missing; convert again to make reference vectors")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            images, answers = file.get_tensor("images"), file.get_tensor(spec.output)
            rows = json.loads(file.metadata()["cases"])
        cases = tuple(
            Case(str(row["name"]), image, bool(row["contiguous"]), msgspec.convert(row.get("role", "view"), Role))
            for row, image in zip(rows, images, strict=True)
        )
    except (safetensors.SafetensorError, msgspec.ValidationError, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} does not hold reference vectors ({error})") from error
    rows, shape = answers, None
    if spec.features and answers.ndim > 1 and answers.size:
        rows, shape = answers.reshape(len(answers), -1), answers.shape[1:]
    reference = Reference(cases, rows, shape)
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

    `progress` counts them. Raises CheckpointError where an answer is not finite, and names the module where it begins.
    """
    import torch

    model, logits = model.eval(), []
    with torch.no_grad():
        for case in counted(cases, "computing PyTorch's answers", progress):
            image = to_model_input(torch.from_numpy(case.image)[None], preprocessing)
            logits.append(model(image)[0])
            if not logits[-1].isfinite().all():
                raise CheckpointError(
                    f"the network answers {case.name!r} with NaN or infinity, in PyTorch already, though its weights "
                    f"are finite: {_first_broken(model, image)}; check the checkpoint where it was trained"
                )
    answers = torch.stack(logits).numpy().astype(np.float32)
    return Reference(cases, answers.reshape(len(cases), -1), answers.shape[1:])


def check_answers(model: nn.Module, preprocessing: Preprocessing) -> None:
    """Run the network once, before work that takes minutes. Raises CheckpointError where an answer is not finite."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, *preprocessing.image_size), dtype=np.uint8)
    reference_of(model, preprocessing, (Case("noise", pixels),))


def _first_broken(model: nn.Module, image: Tensor) -> str:
    """In words, the first module that makes values that are not finite of such as are."""
    import torch

    from mobilevit_sdk.layers.hooks import forward_hooks

    found: list[str] = []

    def look(name: str) -> Hook:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not found and isinstance(output, torch.Tensor) and not output.isfinite().all():
                largest = max((float(each.abs().max()) for each in inputs if isinstance(each, torch.Tensor)), default=0)
                found.append(f"they begin in {name} ({type(module).__name__}), whose input reaches {largest:.3g}")

        return hook

    modules = [(module, look(name)) for name, module in model.named_modules() if name]
    with forward_hooks(after=modules), torch.no_grad():
        model(image)
    return found[0] if found else "they begin outside of its modules"
