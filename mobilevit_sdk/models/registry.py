"""Names of models and families: how a family's module registers itself, and how a network is built from its spec."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

import msgspec
from torch import nn

from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.models.backbone import Backbone, LearnsTasks
from mobilevit_sdk.spec import Features, ModelConfig, ModelInfo, ModelSpec, Windows


@dataclass(frozen=True)
class Family:
    """A family of networks: how its config and its model are made."""

    name: str
    config_type: type[ModelConfig]
    model_type: Callable[[Any], nn.Module]


@dataclass(frozen=True)
class Entry:
    """A registered model: its name, family, config and what is publicly known of it."""

    name: str
    family: str
    config: ModelConfig
    info: ModelInfo


# Modules here, in alphabetical order, and those with further variants of a family.
_FAMILIES = ("dearkd", "deepvit", "detr", "efficientvit", "mobilevit", "mobilevitv2", "navit", "tiny_vit", "vit")
_VARIANTS = ("deit",)
_families: dict[str, Family] = {}
_models: dict[str, Entry] = {}

M = TypeVar("M", bound=Callable[[Any], nn.Module])


def register_family(name: str, config_type: type[ModelConfig]) -> Callable[[M], M]:
    """Class decorator: `model_type(config)` builds every network of the family `name`."""

    def register(model_type: M) -> M:
        _families[name] = Family(name, config_type, model_type)
        return model_type

    return register


def register_model(info: ModelInfo) -> Callable[[Callable[[], ModelConfig]], Callable[[], ModelConfig]]:
    """Function decorator: the function's name becomes the model's, what it returns is its config."""

    def register(make_config: Callable[[], ModelConfig]) -> Callable[[], ModelConfig]:
        config = make_config()
        family = next(f.name for f in _families.values() if f.config_type is type(config))
        _models[make_config.__name__] = Entry(make_config.__name__, family, config, info)
        return make_config

    return register


@cache
def _import_families() -> None:
    """Ours, then those of other packages, which name their module in the entry-point group `mobilevit_sdk.models`."""
    for family in (*_FAMILIES, *_VARIANTS):
        importlib.import_module(f"mobilevit_sdk.models.{family}")
    for point in entry_points(group="mobilevit_sdk.models"):
        point.load()


def is_ours(family: str) -> bool:
    """Whether the SDK itself defines the family: then its phone graphs are the SDK's to keep native."""
    _import_families()
    return _families[family].model_type.__module__.startswith("mobilevit_sdk.")


def list_models(pattern: str | None = None, *, family: str | None = None) -> list[str]:
    """The names of all registered models, or of those that match a pattern with wildcards, or of one family.

    >>> list_models("mobilevit_*")
    ['mobilevit_xxs', 'mobilevit_xs', 'mobilevit_s']
    >>> list_models("*_21m_*", family="tiny_vit")
    ['tiny_vit_21m_224', 'tiny_vit_21m_384', 'tiny_vit_21m_512']

    A pattern that matches none gives an empty list. Raises RequestError for an unknown family.
    """
    return [entry.name for entry in model_entries(family) if fnmatchcase(entry.name, pattern or "*")]


def model_entries(family: str | None = None) -> list[Entry]:
    """All registered models, or those of one family. Raises RequestError for an unknown family."""
    _import_families()
    if family is not None and family not in _families:
        raise RequestError(f"unknown family {family!r}; {suggest(family, _families)}")
    order = [*_FAMILIES, *_families]  # whichever module was imported first
    found = [entry for entry in _models.values() if family in (None, entry.family)]
    return sorted(found, key=lambda entry: order.index(entry.family))


def model_entry(name: str) -> Entry:
    """The registered model `name`. Raises RequestError with the nearest names when there is none."""
    _import_families()
    if name not in _models:
        raise RequestError(f"unknown model {name!r}; {suggest(name, _models)}")
    return _models[name]


def model_spec(name: str, **overrides: Any) -> ModelSpec:
    """The spec of a registered model, with fields of its config replaced by `overrides`."""
    entry = model_entry(name)
    unknown = set(overrides) - set(entry.config.__struct_fields__)
    if unknown:
        raise RequestError(f"{name} has no option {', '.join(sorted(unknown))}")
    config = msgspec.structs.replace(entry.config, **overrides)
    return ModelSpec(
        model=name,
        family=entry.family,
        config=msgspec.to_builtins(config),
        preprocessing=entry.info.preprocessing,
        license=entry.info.license,
    )


def build_model(spec: ModelSpec) -> nn.Module:
    """The network that `spec` describes, freshly initialized. Raises RequestError for a config that does not fit."""
    _import_families()
    if spec.family not in _families:
        raise RequestError(f"unknown family {spec.family!r}; {suggest(spec.family, _families)}")
    family = _families[spec.family]
    try:
        config = msgspec.convert(spec.config, family.config_type)
        network = family.model_type(config)
    except (msgspec.ValidationError, ValueError) as error:
        raise RequestError(f"the config of {spec.model} is not one of family {spec.family}: {error}") from error
    if spec.features:
        if not isinstance(network, Backbone):
            raise RequestError(f"networks of the family {spec.family} return class scores alone, no features")
        return_features(network, spec.features, scores=spec.returns_scores)
    if spec.tasks:
        if not isinstance(network, LearnsTasks):
            raise RequestError(f"networks of the family {spec.family} learn no tasks beside their own: only ViT's do")
        network.add_tasks(spec.tasks)
    return network


def return_features(network: Backbone, kind: Features, *, scores: bool) -> None:
    """`network.return_features`. Raises RequestError for a family that returns either scores or features."""
    if not scores:
        network.return_features(kind)
    elif type(network).forward is Backbone.forward:
        network.return_features(kind, scores=True)
    else:
        raise RequestError(f"a {type(network).__name__} returns class scores or features, not both")


def model_config(spec: ModelSpec) -> ModelConfig:
    """The config of `spec` as its family's own type. Raises msgspec.ValidationError, a ValueError, if it is not one."""
    _import_families()
    return msgspec.convert(spec.config, _families[spec.family].config_type)


def spec_at_size(spec: ModelSpec, height: int, width: int, windows: Windows | None = None) -> ModelSpec:
    """The spec of the same network for images of another size, in pixels, and its preprocessing for them.

    `windows` says whether the network's windows keep their size in positions or scale with the image, as far as the
    family has any; by default they scale, but at the spec's own image size, where they are what they are. Raises
    RequestError for a size that the network does not take.
    """
    if windows is None:
        windows = "keep" if spec.preprocessing.image_size == (height, width) else "scale"
    try:
        config = model_config(spec)
        if windows == "scale":
            config = config.at_image_size(height, width)
        else:
            config.check_image_size(height, width)
    except ValueError as error:
        raise RequestError(f"{spec.model}: {error}") from error
    preprocessing = spec.preprocessing.at_size(height, width)
    return msgspec.structs.replace(spec, config=msgspec.to_builtins(config), preprocessing=preprocessing)
