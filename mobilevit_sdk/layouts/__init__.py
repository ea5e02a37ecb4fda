"""How releases name the tensors of our networks: one file per family, one `Layout` per release, found by themselves.

A checkpoint is identified by its names, which tell family and release, and then by its shapes, which tell the variant.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mobilevit_sdk.registry import Entry, build_model, list_models, model_spec
from mobilevit_sdk.spec import ModelSpec, Preprocessing
from mobilevit_sdk.tensor_file import shorten

OWN = "own"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """How one release stores the networks of one family.

    `modules(config)` maps our name of a module, or of a single tensor, to the release's. Where it gives several, their
    tensors stacked along the first axis are ours. What it leaves out has the same name in both. `prefix` stands before
    some names in a classifier's file and before none in a bare backbone's; `modules` gives the names without it.
    """

    release: str
    family: str
    modules: Callable[[Any], Mapping[str, tuple[str, ...]]]
    # From the registry's spec of the matched model, its config read from the file; None: what the registry states.
    preprocessing: Callable[[ModelSpec], Preprocessing] | None = None
    classifier: str = "head"  # our name of the last linear layer, whose rows are the classes
    prefix: str = ""
    # Our name of a module -> for each row of its tensors, which row of the release's it is: ours == theirs[rows].
    rows: Callable[[Any], Mapping[str, Tensor]] = lambda config: {}
    # The release's name of a tensor that the network derives by itself -> our name of the buffer that it must equal.
    # Files may hold it or lack it.
    derived: Callable[[Any], Mapping[str, str]] = lambda config: {}
    # What a file's names and shapes say of the config beyond the variant: window sizes, a second head. Names as above.
    options: Callable[[Mapping[str, Tensor]], dict[str, Any]] = lambda tensors: {}

    def sources(self, config: Any, names: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """For each tensor of ours, the names of the release's tensors that make it."""
        modules = self.modules(config)
        sources = {}
        for name in names:
            module, _, leaf = name.rpartition(".")
            theirs = modules.get(module, (module,))
            sources[name] = modules.get(name) or tuple(f"{each}.{leaf}" for each in theirs)
        return sources

    def strip(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors with `prefix` taken off their names, unless two would then have the same."""
        stripped = {name.removeprefix(self.prefix): tensor for name, tensor in tensors.items()}
        return stripped if len(stripped) == len(tensors) else dict(tensors)


@dataclass(frozen=True)
class Match:
    """How a file fits a network: which of its tensors make each of ours, and what stands in the way."""

    spec: ModelSpec
    layout: Layout
    tensors: dict[str, Tensor]  # of the file, as the layout names them
    sources: dict[str, tuple[str, ...]]  # our name -> theirs
    missing: list[str]
    left_over: list[str]
    misshapen: list[str]

    @property
    def problems(self) -> int:
        return len(self.missing) + len(self.left_over) + len(self.misshapen)

    @property
    def classifier(self) -> str:
        """The file's name of the matrix whose rows are the classes."""
        return self.sources[f"{self.layout.classifier}.weight"][0]

    @property
    def lacks_only_classifier(self) -> bool:
        head = {self.classifier, self.sources[f"{self.layout.classifier}.bias"][0]}
        return set(self.missing) == head and self.problems == len(head)

    def describe(self) -> str:
        kinds = (("missing", self.missing), ("left over", self.left_over), ("of another shape", self.misshapen))
        return "; ".join(f"{len(names)} {kind} ({shorten(names)})" for kind, names in kinds if names)


def own_layout(family: str) -> Layout:
    """The layout of `save_checkpoint`: our names."""
    return Layout(OWN, family, modules=lambda config: {})


@cache
def all_layouts() -> tuple[Layout, ...]:
    """Our own layout of every family, then the releases that the modules of this package declare as `LAYOUTS`."""
    found = [own_layout(family) for family in dict.fromkeys(entry.family for entry in list_models())]
    for module in pkgutil.iter_modules(__path__):
        found += importlib.import_module(f"{__name__}.{module.name}").LAYOUTS
    return tuple(found)


def nearest_layout(tensors: Mapping[str, Tensor]) -> tuple[Layout, float]:
    """The layout whose names are nearest to the file's, and the share of names that both have, from 0 to 1."""

    def share(layout: Layout) -> float:
        entry, names = list_models(layout.family)[0], layout.strip(tensors).keys()
        sources = layout.sources(entry.config, _registered_shapes(entry.name))
        expected = {name for theirs in sources.values() for name in theirs}
        return len(expected & names) / len(expected | names)

    return max(((layout, share(layout)) for layout in all_layouts()), key=lambda found: found[1])


def match_variants(layout: Layout, tensors: Mapping[str, Tensor]) -> list[Match]:
    """How the file fits each registered model of the layout's family, with as many classes as its head has."""
    return [_match_variant(layout, entry, layout.strip(tensors)) for entry in list_models(layout.family)]


def _match_variant(layout: Layout, entry: Entry, tensors: dict[str, Tensor]) -> Match:
    shapes = dict(_registered_shapes(entry.name))
    sources = layout.sources(entry.config, shapes)
    weight, bias = f"{layout.classifier}.weight", f"{layout.classifier}.bias"
    classifier = tensors.get(sources[weight][0])
    num_classes = len(classifier) if classifier is not None and classifier.ndim else shapes[weight][0]
    shapes |= {weight: (num_classes, *shapes[weight][1:]), bias: (num_classes,)}
    spec = model_spec(entry.name, num_classes=num_classes)
    if layout.preprocessing is not None:
        spec = msgspec.structs.replace(spec, preprocessing=layout.preprocessing(spec))
    return compare(layout, spec, shapes, sources, tensors)


def compare(
    layout: Layout,
    spec: ModelSpec,
    shapes: Mapping[str, Shape],
    sources: Mapping[str, tuple[str, ...]],
    tensors: dict[str, Tensor],
) -> Match:
    """Set what the network of `spec` needs against what a file holds, name by name and shape by shape."""
    missing: list[str] = []
    misshapen: list[str] = []
    complete: dict[str, tuple[str, ...]] = {}
    for name, theirs in sources.items():
        absent = [each for each in theirs if each not in tensors]
        if absent and name.endswith("num_batches_tracked"):
            continue  # BatchNorm's count of training steps: older files lack it, and inference does not read it
        complete[name] = theirs
        missing += absent
        if not absent:
            found = _stacked_shape([tuple(tensors[each].shape) for each in theirs])
            if found != shapes[name]:
                misshapen.append(f"{' + '.join(theirs)} {list(found or ())} instead of {list(shapes[name])}")
    used = {name for theirs in sources.values() for name in theirs}
    left_over = [name for name in tensors if name not in used]
    return Match(spec, layout, tensors, complete, missing, left_over, misshapen)


def _stacked_shape(shapes: list[Shape]) -> Shape | None:
    """The shape of tensors stacked along the first axis; None where they cannot be."""
    if len(shapes) == 1:
        return shapes[0]
    if len({shape[1:] for shape in shapes}) > 1 or () in shapes:
        return None
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


class _ShapesOnly(TorchFunctionMode):
    """Skip what writes into tensors: initial values cost time, and a meta tensor has no room for them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__.endswith("_") and not func.__name__.endswith("__"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def tensor_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Names and shapes of all tensors of a network, without memory for any. Raises what `build_model` raises."""
    with torch.device("meta"), _ShapesOnly():
        model = build_model(spec)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@cache
def _registered_shapes(model: str) -> Mapping[str, Shape]:
    return tensor_shapes(model_spec(model))
