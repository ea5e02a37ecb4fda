"""How releases name the tensors of our networks: one file per family, one `KeyMap` per release, found by themselves.

A checkpoint is identified by its names, which tell family and release, and then by its shapes, which tell the variant:
see `mobilevit_sdk.checkpoints.identify`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from torch import Tensor

from mobilevit_sdk.models.meta_model import tensor_shapes
from mobilevit_sdk.models.registry import Entry, model_entries
from mobilevit_sdk.spec import ModelSpec, Preprocessing

__all__ = ["OWN", "KeyMap", "all_key_maps", "own_key_map", "tensor_shapes"]

OWN = "own"


@dataclass(frozen=True)
class KeyMap:
    """How one release stores the networks of one family.

    `modules(config)` maps our name of a module, or of a single tensor, to the release's. Where it gives several, their
    tensors, all of the same shape, stacked along the first axis are ours. What it leaves out has the same name in both.
    `prefix` stands before all names but the classifier's in a classifier's file, and before none in a bare backbone's;
    `modules` gives the names without it.
    """

    release: str
    family: str
    modules: Callable[[Any], Mapping[str, tuple[str, ...]]]
    # From the registry's spec of the matched model, its config read from the file; None: what the registry states.
    preprocessing: Callable[[ModelSpec], Preprocessing] | None = None
    classifier: str = "head"  # our name of the last linear layer, whose rows are the classes
    no_class: int = 0  # how many of its rows, the last, stand for no class
    classifier_norm: str = ""  # our name of the BatchNorm before it, which a plain linear layer in its place lacks
    prefix: str = ""
    # Our name of a module -> for each row of its tensors, which row of the release's it is: ours == theirs[rows].
    rows: Callable[[Any], Mapping[str, Tensor]] = lambda config: {}
    # The release's name of a tensor that the network derives itself -> our name of the buffer that it must equal.
    # Files may hold it or lack it; `stores_derived` says whether the release's own code writes and expects it.
    derived: Callable[[Any], Mapping[str, str]] = lambda config: {}
    stores_derived: bool = False
    # What a file's names and shapes say of the config beyond the variant: window sizes, a second head. Names as above.
    options: Callable[[Mapping[str, Tensor]], dict[str, Any]] = lambda tensors: {}
    container: str = ""  # the key under which the release's own .pth files hold the weights
    # Of the classes that the release was trained on, in order, and what to say of it: for heads with as many classes,
    # where nothing beside the weights speaks of them.
    labels: tuple[str, ...] = ()
    labels_note: str = ""
    backbone_lacks: tuple[str, ...] = ()  # our modules, beside the classifier's, that a backbone may come without
    models: str = "*"  # a pattern with wildcards: those of the family's registered models that the release has

    def sources(self, config: Any, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """For each tensor of ours, the names of the release's tensors that make it."""
        modules = self.modules(config)
        sources = {}
        for name in names:
            module, _, leaf = name.rpartition(".")
            theirs = modules.get(module, (module,))
            sources[name] = modules.get(name) or tuple(f"{each}.{leaf}" for each in theirs)
        return sources

    def tensor_rows(self, config: Any, names: Iterable[str]) -> dict[str, Tensor]:
        """`rows` by the names of our tensors instead of their modules."""
        rows = self.rows(config)
        return {name: rows[module] for name in names if (module := name.rpartition(".")[0]) in rows}

    def entries(self) -> list[Entry]:
        """The registered models that a file of the release may hold."""
        return [entry for entry in model_entries(self.family) if fnmatchcase(entry.name, self.models)]

    def strip(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors with `prefix` taken off their names, unless two would then have the same."""
        stripped = {name.removeprefix(self.prefix): tensor for name, tensor in tensors.items()}
        return stripped if len(stripped) == len(tensors) else dict(tensors)


def own_key_map(family: str) -> KeyMap:
    """The layout of `save_checkpoint`: our names. Raises RequestError for an unknown family."""
    model_entries(family)
    return next(layout for layout in all_key_maps() if (layout.release, layout.family) == (OWN, family))


@cache
def all_key_maps() -> tuple[KeyMap, ...]:
    """Our own layout of every family, which one without releases states, then what modules here have in `LAYOUTS`."""
    families = dict.fromkeys(entry.family for entry in model_entries())
    stated = {each.family: each for each in _STATED if each.release == OWN}
    releases = tuple(each for each in _STATED if each.release != OWN)
    own = (
        stated.get(family) or _own(family, [each for each in releases if each.family == family]) for family in families
    )
    return (*own, *releases)


def _own(family: str, releases: list[KeyMap]) -> KeyMap:
    """Our names; what a release reads from shapes can be read from ours as well, under its names."""
    if not releases:
        return KeyMap(OWN, family, modules=lambda config: {})
    release = releases[0]

    def options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        sources = release.sources(model_entries(family)[0].config, tensors)
        return release.options({theirs[0]: tensors[ours] for ours, theirs in sources.items()})

    return KeyMap(
        OWN,
        family,
        modules=lambda config: {},
        classifier=release.classifier,
        no_class=release.no_class,
        options=options,
    )


_STATED: tuple[KeyMap, ...] = tuple(  # at the end, because these modules take KeyMap from this one
    layout
    for module in pkgutil.iter_modules(__path__)
    for layout in importlib.import_module(f"{__name__}.{module.name}").LAYOUTS
)
