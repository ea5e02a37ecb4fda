"""Networks that teach, wherever they come from: checkpoints, timm, and modules of the user's own code."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.tensor_file import read_tensors
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.spec import Preprocessing
from mobilevit_sdk.text import one_line

TIMM, PYTHON = "timm:", "python:"  # how sources begin


@dataclass(frozen=True)
class TeacherNetwork:
    """Any network that gives scores for classes: images [B, 3, H, W], prepared as it says, -> [B, classes].

    `preprocessing` is a Preprocessing or some of its fields, such as {"mean": ..., "std": ..., "image_size": 224}. What
    it leaves out is as there: values in [0, 1], RGB; without `image_size`, images come as the student sees them. Images
    are the student's, augmented, so nothing is cropped. With `labels`, the names of its classes in order, a student
    finds its own among them; without, both have the same classes. `name` is what people are told, and `provenance` goes
    into the checkpoints of the student.
    """

    network: nn.Module
    preprocessing: Preprocessing | Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    name: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = self.name or type(self.network).__name__
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "provenance", {"model": name, **self.provenance})
        object.__setattr__(self, "labels", None if self.labels is None else tuple(self.labels))
        self.prepared_as((1, 1))

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in pixels, or None where it takes images of any size."""
        given = self.preprocessing
        size = given.image_size if isinstance(given, Preprocessing) else given.get("image_size")
        return (size, size) if isinstance(size, int) else size and tuple(size)

    def prepared_as(self, default: tuple[int, int]) -> Preprocessing:
        """How images are prepared, at the size `default` where none is given. Raises RequestError."""
        if isinstance(self.preprocessing, Preprocessing):
            return self.preprocessing
        given = dict(self.preprocessing)
        if unknown := [name for name in given if name not in Preprocessing.__struct_fields__]:
            hint = suggest(str(unknown[0]), Preprocessing.__struct_fields__)
            raise RequestError(f"the preprocessing of the teacher {self.name} has no field {unknown[0]!r}; {hint}")
        try:
            size = self.image_size or default
            return msgspec.convert({"resize_size": min(size), **given, "image_size": size}, Preprocessing)
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            raise RequestError(f"the preprocessing of the teacher {self.name} is wrong: {error}") from error


# A checkpoint of this SDK, or where one lies; a network of others, or where one is.
TeacherLike = Checkpoint | TeacherNetwork | Path | str


def open_teachers(given: TeacherLike | Sequence[TeacherLike]) -> list[Checkpoint | TeacherNetwork]:
    """One or several teachers: see `open_teacher`."""
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    return [open_teacher(each) for each in several]


def open_teacher(source: TeacherLike) -> Checkpoint | TeacherNetwork:
    """A teacher from where it lies.

    A path or `hf-hub:org/name` is a checkpoint, of which nothing is executed. `timm:NAME` is a model of timm with its
    pretrained weights, which timm may download, and `timm:NAME=FILE` one with the weights of a file.
    `python:package.module:function` and `python:path/to/file.py:function` import the user's own code, from the current
    folder and from that of the file too, and call the function, which returns an nn.Module with an attribute
    `preprocessing`, and `labels` if it likes, or a TeacherNetwork. Raises RequestError for what cannot be opened.
    """
    if isinstance(source, Checkpoint | TeacherNetwork):
        return source
    if isinstance(source, nn.Module):
        raise RequestError("a network that teaches says how its images are prepared: wrap it in a TeacherNetwork")
    text = str(source)
    if text.startswith(TIMM):
        return _from_timm(text)
    return _from_code(text) if text.startswith(PYTHON) else load_checkpoint(source)


def _from_timm(source: str) -> TeacherNetwork:
    try:
        timm: Any = importlib.import_module("timm")
    except ImportError as error:
        raise RequestError(f"the teacher {source} needs timm, which is not installed: pip install timm") from error
    name, _, file = source.removeprefix(TIMM).partition("=")
    tensors = read_tensors(file).tensors if file else None
    if not timm.is_model(name.partition(".")[0]):
        known = suggest(name.partition(".")[0], timm.list_models())
        raise RequestError(f"the teacher {source}: timm {timm.__version__} has no model {name!r}; {_short(known)}")
    try:
        network: Any = timm.create_model(name, pretrained=tensors is None)
        if tensors is not None:
            head = tensors.get(f"{network.pretrained_cfg.get('classifier')}.weight")
            if head is not None and len(head) != network.num_classes:
                network = timm.create_model(name, num_classes=len(head))
            network.load_state_dict(tensors)
        config = timm.data.resolve_model_data_config(network)
    except Exception as error:  # of its downloads, of other weights
        raise RequestError(f"the teacher {source} cannot be loaded: {_reason(error)}") from error
    labels: Any = network.pretrained_cfg.get("label_names")
    return TeacherNetwork(
        network,
        {"image_size": config["input_size"][1:], "mean": config["mean"], "std": config["std"]},
        labels=tuple(labels) if labels and len(labels) == network.num_classes else None,
        name=f"{TIMM}{name}",
        provenance={"source": Path(file).name if file else network.pretrained_cfg.get("hf_hub_id")},
    )


def _from_code(source: str) -> TeacherNetwork:
    place, _, function = source.removeprefix(PYTHON).rpartition(":")
    if not place or not function.isidentifier():
        raise RequestError(
            f"the teacher {source} names no function: give python:package.module:function or python:file.py:function"
        )
    try:
        with _importing_from(Path(place).parent if place.endswith(".py") else Path()):
            made = getattr(_module(place), function)()
    except Exception as error:  # whatever the user's code raises
        raise RequestError(f"the teacher {source} cannot be made: {_reason(error)}") from error
    if isinstance(made, TeacherNetwork):
        return made
    if not isinstance(made, nn.Module) or not hasattr(made, "preprocessing"):
        found = "an nn.Module without" if isinstance(made, nn.Module) else f"{type(made).__name__} without"
        raise RequestError(
            f"the teacher {source} returned {found} an attribute `preprocessing`: give a network one, such as "
            f'{{"image_size": 224, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}'
        )
    labels: Any = getattr(made, "labels", None)
    code: dict[str, Any] = {"model": type(made).__name__, "source": f"{Path(place).name}:{function}"}
    preprocessing: Any = made.preprocessing
    return TeacherNetwork(made, preprocessing, labels, f"{Path(place).name}:{function}", code)


def _module(place: str) -> Any:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    if not Path(place).is_file():
        raise FileNotFoundError(f"{place} does not exist")
    spec = importlib.util.spec_from_file_location(f"teacher_{Path(place).stem}", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as the import of a module does: dataclasses look there
    spec.loader.exec_module(module)
    return module


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """As `python -m` and `python file.py` do: what lies beside the code can be imported."""
    path = str(folder.resolve())
    sys.path.insert(0, path)
    try:
        yield
    finally:
        if path in sys.path:
            sys.path.remove(path)


def _reason(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")


def _short(text: str) -> str:
    return text if text.startswith("did you mean") else "timm.list_models() names them"
