"""How the names and shapes of a file fit those of one network: no values are read, and the network is not kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mobilevit_sdk.checkpoints.key_maps import KeyMap
from mobilevit_sdk.models.meta_model import Shape, tensor_shapes
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.text import shorten

STEP_COUNT = "num_batches_tracked"


@dataclass(frozen=True)
class Match:
    """How a file fits a network: which of its tensors make each of ours, and what stands in the way.

    Names of the file are written as the key map has them, without wrappers and its prefix; `names` gives them as they
    stand in it.
    """

    spec: ModelSpec
    config: Any  # the spec's, as its family's type; None for our own key map, which needs none
    key_map: KeyMap
    options: dict[str, Any]  # fields of the config that are not the registered variant's, the class count aside
    names: dict[str, str]
    sources: dict[str, tuple[str, ...]]  # our name -> theirs; not of tensors that are missing
    derived: dict[str, str]  # theirs -> our buffer that it must equal
    missing: dict[str, str]  # theirs -> ours
    left_over: list[str]
    misshapen: list[str]  # in words
    lacks_counts: bool  # BatchNorm's of training steps: older files have none, and inference does not read them
    neutral_norm: str = ""  # our name of a BatchNorm that the file lacks and that shall change nothing
    notes: tuple[str, ...] = ()  # in words, what was taken off the names, left of the tensors, or stands beside them

    @property
    def problems(self) -> int:
        return len(self.missing) + len(self.left_over) + len(self.misshapen)

    @property
    def fits(self) -> bool:
        """Whether the file holds this network, or its backbone, and nothing else."""
        return not self.problems or self.is_backbone

    @property
    def classifier(self) -> str:
        """The file's name of the matrix whose rows are the classes."""
        name = f"{self.key_map.classifier}.weight"
        return next((theirs for theirs, ours in self.missing.items() if ours == name), None) or self.sources[name][0]

    @property
    def is_backbone(self) -> bool:
        """Whether nothing is wrong except that the classifier is missing."""
        head = {f"{self.key_map.classifier}.weight", f"{self.key_map.classifier}.bias"}
        head &= {*self.sources, *self.missing.values()}  # some have no bias, and features need neither
        roots = (self.key_map.classifier.split(".")[0], *self.key_map.backbone_lacks)
        lacking = set(self.missing.values())
        return (
            bool(head)
            and head <= lacking
            and len(self.missing) == self.problems
            and all(name.startswith(tuple(f"{root}." for root in roots)) for name in lacking)
        )

    def lacks_only(self, module: str) -> bool:
        """Whether nothing is wrong except that this module of ours, none of it, is in the file."""
        lacking = {name.rpartition(".")[0] for name in self.missing.values()}
        kept = any(name.rpartition(".")[0] == module for name in self.sources)
        return bool(self.missing) and len(self.missing) == self.problems and lacking == {module} and not kept

    def describe(self) -> str:
        """What does not fit."""
        kinds = (("missing", [*self.missing]), ("left over", self.left_over), ("of another shape", self.misshapen))
        return "; ".join(f"{len(names)} {kind} ({shorten(names)})" for kind, names in kinds if names)


def match_network(
    key_map: KeyMap, spec: ModelSpec, config: Any, tensors: Mapping[str, Tensor], options: dict[str, Any]
) -> Match:
    """Compare what the network of `spec` needs with what a file holds, name by name and shape by shape.

    Raises what `build_model` raises.
    """
    shapes = tensor_shapes(spec)
    stripped = key_map.strip(tensors)
    sources: dict[str, tuple[str, ...]] = {}
    missing: dict[str, str] = {}
    misshapen: list[str] = []
    lacks_counts = False
    wanted = key_map.sources(config, shapes)
    for name, theirs in wanted.items():
        absent = [each for each in theirs if each not in stripped]
        if absent and name.endswith(STEP_COUNT):
            lacks_counts |= theirs[0].replace(STEP_COUNT, "running_mean") in stripped
            continue
        missing |= dict.fromkeys(absent, name)
        if not absent:
            sources[name] = theirs
            found = _stacked_shape([tuple(stripped[each].shape) for each in theirs])
            if found != shapes[name]:
                misshapen.append(f"{' + '.join(theirs)} {list(found or ())} instead of {list(shapes[name])}")
    derived = {theirs: ours for theirs, ours in key_map.derived(config).items() if theirs in stripped}
    used = {name for theirs in wanted.values() for name in theirs} | derived.keys()
    return Match(
        spec=spec,
        config=config,
        key_map=key_map,
        options=options,
        names=dict(zip(stripped, tensors, strict=True)),
        sources=sources,
        derived=derived,
        missing=missing,
        left_over=[name for name in stripped if name not in used],
        misshapen=misshapen,
        lacks_counts=lacks_counts,
    )


def _stacked_shape(shapes: list[Shape]) -> Shape | None:
    """The shape of tensors stacked along the first axis; None where they cannot be."""
    if len(shapes) == 1:
        return shapes[0]
    if len({shape[1:] for shape in shapes}) > 1 or () in shapes:
        return None
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])
