"""Task files: what one task learned on a frozen network, in a small file that says which network that is.

A `.safetensors` file with the task's class token, memory and head (`layers.memory`), some tens of kB. Its header holds
a `TaskHeader`. A task is read as it was trained, and put beside the network that it was trained on and no other.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.tensor_file import FileVersion, TensorFile, read_tensors
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.files import decode_json, hash_and_size, replacing
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.spec import MemoryTask, ModelSpec, Preprocessing, Strict
from mobilevit_sdk.text import one_line, shorten

TASK_KEY = "mobilevit_sdk_task"  # of the header's metadata
_PREFIX = "tasks."


class TaskHeader(Strict, frozen=True, kw_only=True):
    """What a task file says of itself: the task, and the network that it was trained on."""

    task: MemoryTask
    base_model: str
    base_source: str  # the name of its file
    base_sha256: str  # of its weights: `weights_sha256`
    extended: dict[str, str] = msgspec.field(default_factory=dict)  # `task_sha256` of the tasks that it extends
    preprocessing: Preprocessing  # of the images that it was trained with
    license: str | None = None
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True)
class TaskFile:
    """A task as it was trained, by our names of its tensors."""

    version: FileVersion
    header: TaskHeader
    tensors: Mapping[str, Tensor]

    @property
    def source(self) -> str:
        """As it was asked for."""
        return self.version.source

    @property
    def task(self) -> MemoryTask:
        """Its name, classes and memory."""
        return self.header.task


def weights_sha256(model: nn.Module) -> str:
    """Of a network's own weights, by name and value, whatever tasks stand beside them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(_PREFIX):
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def task_sha256(model: nn.Module, index: int) -> str:
    """Of what the task of `model` at `index` has learned, by name and value."""
    prefix, digest = f"{_PREFIX}{index}.", hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(prefix):
            own = f"{name.removeprefix(prefix)} {tuple(tensor.shape)}"
            digest.update(own.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_task(model: nn.Module, index: int, header: TaskHeader, path: Path | str) -> None:
    """Write the task of `model` at `index` to a `.safetensors` file, atomically. Raises RequestError if it cannot."""
    prefix = f"{_PREFIX}{index}."
    tensors = {
        name.removeprefix(prefix): tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if name.startswith(prefix)
    }
    with replacing(Path(path)) as fresh:
        text = msgspec.json.encode(header).decode()
        fresh.write_bytes(safetensors.torch.save(tensors, metadata={TASK_KEY: text}))


def read_task(source: str | Path) -> TaskFile:
    """A task file, or `hf-hub:org/name` of one. Raises CheckpointError for anything else, and for damaged weights."""
    file = read_tensors(source)
    if TASK_KEY not in file.metadata:
        raise CheckpointError(f"{file.source} is not a task: give a file that `mobilevit train --base` wrote")
    try:
        header = decode_json(file.metadata[TASK_KEY], TaskHeader)
    except ValueError as error:
        raise CheckpointError(f"{file.source} has a header that describes no task: {one_line(str(error))}") from error
    tensors = {name: tensor.float() for name, tensor in file.tensors.items() if tensor.is_floating_point()}
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"{file.source} holds values that are not finite ({shorten(broken)})")
    return TaskFile(file.version, header, tensors)


class TaskInspection(Strict, frozen=True, kw_only=True):
    """A task file in words and numbers; `mobilevit inspect --json` prints these fields."""

    kind: str = "task"
    path: str
    header: TaskHeader
    parameters: int
    bytes: int
    sha256: str


def inspect_task(source: str | Path) -> TaskInspection | None:
    """Say what a task file holds; None for a local file that is none. Raises what `read_task` raises."""
    try:
        with safe_open(source, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    if TASK_KEY not in metadata:
        return None
    found = read_task(source)
    digest, size = hash_and_size(Path(source))
    parameters = sum(tensor.numel() for tensor in found.tensors.values())
    return TaskInspection(path=str(source), header=found.header, parameters=parameters, bytes=size, sha256=digest)


def refuse_task(file: TensorFile) -> None:
    """Raise CheckpointError where the file is a task, which is no network alone."""
    if TASK_KEY in file.metadata:
        raise CheckpointError(
            f"{file.source} is a task on another network: give that one, and this file as one of its `tasks`"
        )


def add_tasks(
    checkpoint: Checkpoint, files: Iterable[TaskFile | str | Path], *, stored_sha256: str | None = None
) -> Checkpoint:
    """The checkpoint with these tasks, each answered beside its own classes, which stay what they are, to the bit.

    `stored_sha256` is that of its weights before they were brought to another image size: nothing that a task learned
    depends on the size, so it may have been trained at either.

    Raises CheckpointError for a file that is no task of this network, and RequestError for two tasks of one name, for
    tasks that extend others which are not among them, and for a network that learns none.
    """
    tasks = [file if isinstance(file, TaskFile) else read_task(file) for file in files]
    if not tasks:
        return checkpoint
    known = {weights_sha256(checkpoint.model), stored_sha256}
    for each in tasks:
        header = each.header
        if header.base_sha256 not in known:
            raise CheckpointError(
                f"{each.source} is a task on {header.base_model} ({header.base_source}), whose weights are others than "
                f"those of {checkpoint.source}: give the checkpoint that it was trained on, or train it on this one"
            )
    spec = _with_tasks(checkpoint.spec, tasks)
    network = build_model(spec)
    weights = dict(checkpoint.model.state_dict())
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for index, each in enumerate(tasks, len(checkpoint.spec.tasks or ())):
        prefix = f"{_PREFIX}{index}."
        own = {f"{prefix}{name}": tensor for name, tensor in each.tensors.items()}
        if {name: tensor.shape for name, tensor in own.items()} != {
            name: shape for name, shape in shapes.items() if name.startswith(prefix)
        }:
            raise CheckpointError(f"{each.source} does not hold the tensors of the task in its header")
        weights |= own
    network.load_state_dict(weights)
    indices = {task.name: index for index, task in enumerate(spec.tasks or ())}
    for each in tasks:
        for name in each.task.extends:
            if each.header.extended.get(name) != task_sha256(network, indices[name]):
                raise CheckpointError(
                    f"{each.source} was trained beside another task called {name!r}: give the file of that one"
                )
    notes = [*checkpoint.notes]
    for each in tasks:
        if each.header.preprocessing != checkpoint.spec.preprocessing:
            trained = each.header.preprocessing.describe()
            notes.append(f"the task {each.task.name} was trained with images prepared otherwise: {trained}")
    known_files = (*checkpoint.tasks, *(each.version for each in tasks))
    return dataclasses.replace(checkpoint, model=network.eval(), spec=spec, tasks=known_files, notes=tuple(notes))


def _with_tasks(spec: ModelSpec, files: Sequence[TaskFile]) -> ModelSpec:
    try:
        return msgspec.structs.replace(spec, tasks=(*(spec.tasks or ()), *(file.task for file in files)))
    except ValueError as error:
        raise RequestError(f"the tasks {', '.join(file.task.name for file in files)}: {error}") from error
