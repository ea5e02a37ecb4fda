"""Reference vectors: cases and PyTorch's answers to them, stored beside every artifact."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.data.cases import Case, Role
from mobilevit_sdk.errors import ArtifactError, CheckpointError, RequestError
from mobilevit_sdk.files import decode_json
from mobilevit_sdk.progress import Progress, counted, silent
from mobilevit_sdk.spec import ModelSpec, Preprocessing, in_pixels
from mobilevit_sdk.text import one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mobilevit_sdk.layers.hooks import Hook

REFERENCE = "reference.safetensors"


@dataclass(frozen=True)
class Reference:
    """Cases and PyTorch's answers to them: `answers` float32 [cases, values].

    Cases of several image sizes stand in the order of these. A row holds all outputs of the network, flattened, one
    after the other in the order of `ModelSpec.outputs`.
    """

    cases: tuple[Case, ...]
    answers: np.ndarray
    shapes: tuple[tuple[int, ...], ...] = ()  # of each output, for one case; none: there is one, which is the row
    images: str | None = None  # the folder or file that the cases are from; None for those stored beside an artifact

    def split(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Rows like those of `answers`, [cases, values], as one array [cases, ...] for each output."""
        if not self.shapes:
            return (rows,)
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        parts = np.split(rows, ends[:-1], axis=1)
        return tuple(part.reshape(len(rows), *shape) for part, shape in zip(parts, self.shapes, strict=True))

    def check(self, spec: ModelSpec) -> None:
        """Raise RequestError unless there are cases, uint8 [3, H, W] of a size of the model's, with finite answers."""
        if not self.cases:
            raise RequestError("no cases to verify with")
        shapes = [(3, *size) for size in spec.sizes]
        for case in self.cases:
            if case.image.shape not in shapes or case.image.dtype != np.uint8:
                found = f"{case.image.dtype} {case.image.shape}"
                expected = " or ".join(map(str, shapes))
                raise RequestError(f"{case.name!r} is {found}, expected uint8 {expected}: RGB with channels first")
        names = [output.name for output in spec.outputs]
        wanted = [str(output) for output in spec.outputs]
        of_outputs = self.shapes or (self.answers.shape[1:],)
        width = sum(map(math.prod, of_outputs))
        if (len(of_outputs), self.answers.shape) != (len(names), (len(self.cases), width)):
            found = f"{self.answers.dtype} {self.answers.shape}"
            expected = f"{' and '.join(wanted)} in float32 for each case"
            raise RequestError(f"{' and '.join(names)} are {found}, expected {expected}")
        for output, rows, what in zip(spec.outputs, self.split(self.answers), wanted, strict=True):
            shape_fits = output.shape is None or rows.shape[1:] == output.shape
            if not shape_fits or not rows.size or rows.dtype != np.float32:
                found = f"{rows.dtype} {rows.shape}"
                raise RequestError(f"{output.name} are {found}, expected {what} in float32 for each case")
            if not np.isfinite(rows).all():
                raise RequestError(f"the {output.name} are not finite, so nothing can be compared with them")


def write_reference(folder: Path, reference: Reference, spec: ModelSpec) -> None:
    """Store cases as `images`, answers under the names of the outputs, and, in the header, `cases`.

    These are [{"name", "contiguous", "role"}]. Those of further image sizes are in `images_256x192` and so on.
    """
    import safetensors.numpy

    cases = [{"name": case.name, "contiguous": case.contiguous, "role": case.role} for case in reference.cases]
    names = [output.name for output in spec.outputs]
    answers = dict(zip(names, map(np.ascontiguousarray, reference.split(reference.answers)), strict=True))
    images = {
        name: np.stack([case.image for case in reference.cases if case.image.shape[1:] == size])
        for name, size in image_tensors(spec).items()
    }
    tensors = {**images, **answers}
    (folder / REFERENCE).write_bytes(safetensors.numpy.save(tensors, metadata={"cases": json.dumps(cases)}))


def read_reference(path: Path, spec: ModelSpec) -> Reference:
    """Read what `write_reference` wrote. Raises ArtifactError when it is missing, malformed or does not fit `spec`."""
    import safetensors

    if not path.is_file():
        raise ArtifactError(f"{path} is missing; convert again to make reference vectors")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = [output.name for output in spec.outputs]
            stacks = image_tensors(spec)
            if surplus := sorted(set(file.keys()) - {*stacks, *names}):
                raise ValueError(f"it holds {one_line(surplus[0], 40)!r}, which {spec.model} does not return")
            images = []
            for name, size in stacks.items():
                stack = file.get_tensor(name)
                if len(stacks) > 1 and stack.shape[2:] != size:
                    raise ValueError(f"{name} are of shape {stack.shape}, not of {in_pixels(size)} pixels")
                images += list(stack)
            answers = [file.get_tensor(name) for name in names]
            rows = decode_json(file.metadata()["cases"], list[dict[str, Any]])
        cases = tuple(
            Case(str(row["name"]), image, bool(row["contiguous"]), msgspec.convert(row.get("role", "view"), Role))
            for row, image in zip(rows, images, strict=True)
        )
    except (safetensors.SafetensorError, msgspec.ValidationError, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} does not hold reference vectors ({error})") from error
    try:
        reference = _reference(cases, answers, names)
        reference.check(spec)
    except RequestError as error:
        raise ArtifactError(f"{path}: {error}") from error
    return reference


def image_tensors(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """The names of the tensors with images, each with the size of these, in the order of the cases."""
    return {f"images_{in_pixels(size)}" if index else "images": size for index, size in enumerate(spec.sizes)}


def reference_of_sizes(
    networks: Sequence[nn.Module],
    spec: ModelSpec,
    cases: Callable[[Preprocessing], tuple[Case, ...]],
    progress: Progress = silent,
) -> Reference:
    """`reference_of` for each image size of `spec`: a network for each, and the cases that `cases` makes for it.

    Cases of further sizes name it: "noise at 256x192". A size may have no cases, but not all of them.
    """
    found = []
    for index, (network, entry) in enumerate(zip(networks, spec.entries, strict=True)):
        preprocessing = entry.preprocessing
        asked = cases(preprocessing)
        if index:
            at = in_pixels(preprocessing.image_size)
            asked = tuple(dataclasses.replace(case, name=f"{case.name} at {at}") for case in asked)
        if asked:
            found.append(reference_of(network, preprocessing, asked, progress))
    if len(found) == 1:
        return found[0]
    joined = tuple(case for each in found for case in each.cases)
    return Reference(joined, np.concatenate([each.answers for each in found]), found[0].shapes)


def _reference(cases: tuple[Case, ...], answers: list[np.ndarray], names: list[str]) -> Reference:
    """Of an array [cases, ...] for each output. Raises RequestError where they do not belong together."""
    for name, rows in zip(names, answers, strict=True):
        if rows.ndim < 2 or len(rows) != len(cases) or rows.dtype != np.float32:
            raise RequestError(f"{name} are {rows.dtype} {rows.shape}, expected a float32 row for each case")
    joined = np.concatenate([each.reshape(len(cases), -1) for each in answers], axis=1)
    return Reference(cases, joined, tuple(each.shape[1:] for each in answers))


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

    model, found = model.eval(), []
    with torch.no_grad():
        for case in counted(cases, "computing PyTorch's answers", progress):
            image = to_model_input(torch.from_numpy(case.image)[None], preprocessing)
            answers = model(image)
            found.append([each[0] for each in (answers if isinstance(answers, tuple) else (answers,))])
            if not all(each.isfinite().all() for each in found[-1]):
                raise CheckpointError(
                    f"the network answers {case.name!r} with NaN or infinity, in PyTorch already, though its weights "
                    f"are finite: {_first_broken(model, image)}; check the checkpoint where it was trained"
                )
    rows = torch.stack([torch.cat([each.flatten() for each in row]) for row in found]).numpy().astype(np.float32)
    return Reference(cases, rows, tuple(tuple(each.shape) for each in found[0]))


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
