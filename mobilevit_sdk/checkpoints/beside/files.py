"""The files beside a checkpoint, and what they say of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec

from mobilevit_sdk.checkpoints.beside import network
from mobilevit_sdk.checkpoints.beside.keys import Keys, UnreadableError, plain, read_json, unknown_note
from mobilevit_sdk.checkpoints.beside.network import Difference, differences
from mobilevit_sdk.checkpoints.beside.preprocessing import (
    FIELDS,
    PROCESSOR_HARMLESS,
    TIMM_HARMLESS,
    changed,
    from_timm,
    from_transformers,
    squash_note,
)
from mobilevit_sdk.checkpoints.hub import CONFIG, PROCESSOR, WEIGHTS
from mobilevit_sdk.checkpoints.labels import in_order
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.navit import NaViTConfig
from mobilevit_sdk.models.registry import list_models, model_config, model_entry
from mobilevit_sdk.spec import ModelSpec, Preprocessing
from mobilevit_sdk.text import one_line

Size = int | list[int]


class _Elsewhere(ValueError):
    """A file describes another network than the weights beside it."""


@dataclass
class Beside:
    """What the files say; `preprocessing` and `labels` are what holds in the end."""

    preprocessing: Preprocessing
    preprocessing_source: str
    labels: tuple[str, ...] | None = None
    config: dict[str, Any] = field(default_factory=dict)  # fields of the family's config that no weights show
    license: str | None = None  # that the files state, perhaps of the weights that these began from
    notes: tuple[str, ...] = ()


def read_beside(
    path: Path,
    source: str,
    spec: ModelSpec,
    release: str,
    *,
    classifies: bool,
    given: Collection[str] = (),
    chosen: bool = False,
) -> Beside:
    """What stands beside the weights in `path`, whose names and shapes are those of `spec` in the layout of `release`.

    `given` are the fields of Preprocessing that the caller decides, and `chosen` says whether it insists on the variant
    of `spec`. Files beside weights that are named as on the hub
    must fit them; beside others, files that describe another network are left, with a note. Raises CheckpointError,
    which names the key, for what is not understood, or does not fit.
    """
    result = Beside(spec.preprocessing, release_of(release, spec))
    named_as_published = path.name.removesuffix(".index.json") in WEIGHTS
    try:
        config, processor = (read_json(path.parent / name, source) for name in (CONFIG, PROCESSOR))
        if config is None and processor is None:
            return result
        if not named_as_published:
            _check_same_family(config, processor, spec)
        _Reader(source, spec, release, classifies, chosen, set(given), config, processor, result).read()
    except _Elsewhere as error:
        if named_as_published:
            raise CheckpointError(
                f"{source}: {CONFIG} describes another network: {one_line(str(error), 400)}; correct it, or move the "
                f"weights away from it"
            ) from error
        files = " and ".join(name for name in (CONFIG, PROCESSOR) if (path.parent / name).exists())
        return Beside(
            result.preprocessing, result.preprocessing_source, notes=(f"{files} beside it was not read: {error}",)
        )
    except UnreadableError as error:
        if named_as_published:
            raise
        result.notes = (one_line(str(error).removeprefix(f"{source}: "), 400),)
    return result


def release_of(release: str, spec: ModelSpec) -> str:
    """What says how images are prepared where no file does."""
    return f"the {release} release of {spec.model}"


def _check_same_family(config: Keys | None, processor: Keys | None, spec: ModelSpec) -> None:
    """Raise _Elsewhere where nothing says that the files are of a network of this family."""
    config, processor = config or Keys({}), processor or Keys({})
    names = [name for key in ("architecture", "model_type") if (name := config.peek(key))]
    kinds = [str(processor.peek(key)) for key in ("image_processor_type", "feature_extractor_type")]
    families = {_family(str(name)) for name in names}
    if not names and any(kind.startswith("MobileViT") for kind in kinds):
        families |= {"mobilevit", "mobilevitv2"}
    if spec.family not in families:
        said = " and ".join(plain(name) for name in names)
        raise _Elsewhere(
            f"it is of {said}, not of a {spec.family}" if said else "it does not say of which network it is"
        )


def _family(name: str) -> str:
    """The family of a model's name in timm, or a model type of transformers, which is our name of the family."""
    name = name.partition(".")[0]
    return model_entry(name).family if name in list_models() else network.MODEL_TYPES.get(name, name)


@dataclass
class _Reader:
    source: str
    spec: ModelSpec
    release: str
    classifies: bool
    chosen: bool
    given: set[str]
    config: Keys | None
    processor: Keys | None
    result: Beside
    configured: tuple[int, int] | None = None  # image size, as the network's own keys have it

    def read(self) -> None:
        timm: Keys | None = None
        if self.config is not None:
            try:
                timm = self._read_config(self.config)
            except _Elsewhere:
                raise
            except ValueError as error:
                raise CheckpointError(f"{self.source}: {CONFIG}: {one_line(str(error), 400)}") from error
        self._read_preprocessing(timm)
        if self.config is not None:
            self._say_unknown(CONFIG, self.config, network.HARMLESS)

    def _read_config(self, config: Keys) -> Keys | None:
        """Read `config.json` but for its preprocessing. Returns timm's `pretrained_cfg`, where it has one."""
        typed = model_config(self.spec)
        pretrained = config.inside("pretrained_cfg") if "pretrained_cfg" in config else None
        is_timm = "architecture" in config or pretrained is not None
        shown, unseen = list[Difference](), list[Difference]()
        if self.classifies:
            classes = {key: lambda typed, stated: typed.num_classes for key in ("num_classes", "num_labels")}
            shown += differences(config, classes, typed)
        else:
            config.skip("num_classes", "num_labels")
        if is_timm:
            shown += self._architecture(config, typed)
            arguments = config.inside("model_args")
            shown += differences(arguments, network.ARGS_SHOWN.get(self.spec.family, {}), typed)
            shown += differences(config, network.TIMM_SHOWN, typed)
            unseen += differences(config, network.TIMM, typed)
            unseen += differences(arguments, network.ARGS_UNSEEN.get(self.spec.family, {}), typed)
            self._coordinates(config.peek("architecture"), arguments.take("pos_embed_ar_preserving", bool), typed)
            arguments.skip("num_classes")
            if size := arguments.take("img_size", Size):
                self._image_size(size, "img_size")
            if unknown := arguments.left(network.ARGS_HARMLESS):
                raise ValueError(f"model_args holds {', '.join(unknown)}, which is not known here")
        if "model_type" in config and not is_timm:
            model_type = config.take("model_type", str)
            if network.MODEL_TYPES.get(str(model_type), model_type) != self.spec.family:
                raise _Elsewhere(f"model_type is {plain(model_type)}, and the weights are of a {self.spec.family}")
        if not is_timm or self.release.startswith("transformers"):
            shown += differences(config, network.SHOWN.get(self.spec.family, {}), typed)
            unseen += differences(config, network.UNSEEN.get(self.spec.family, {}), typed)
            if size := config.take("image_size", Size):
                self._image_size(size, "image_size")
            self._heads(config, typed)
            self._dilation(config, typed)
            self._norm_eps(config, typed)
        self._labels(config, pretrained, is_timm)
        if shown:
            raise _Elsewhere("; ".join(map(str, shown)))
        if unseen:
            raise ValueError("; ".join(map(str, unseen)))
        licenses = (config.peek("license"), pretrained.peek("license") if pretrained else None)
        self.result.license = next((one_line(str(each), 80) for each in licenses if each), None)
        return pretrained

    def _architecture(self, config: Keys, typed: Any) -> Iterator[Difference]:
        """Whether timm's name of the network is one with these widths, whatever its windows and classes."""
        stated = config.take("architecture", str)
        name = (stated or "").partition(".")[0]
        if name not in list_models():
            if stated:
                self._note(f"{CONFIG} says architecture {plain(stated)}, which is not known here; the weights decide")
            return
        named = model_entry(name)
        free = {"num_classes", "in_channels", "window_sizes", "max_window_size", "distilled", "widths", "num_heads"}
        free |= {"image_size", "norm_eps", *(["coordinates"] if self.spec.family == "navit" else [])}
        fields = set(named.config.__struct_fields__) - free
        if named.family != self.spec.family or any(getattr(named.config, f) != getattr(typed, f) for f in fields):
            yield Difference("architecture", stated, self.spec.model)

    def _heads(self, config: Keys, typed: Any) -> None:
        """Weights do not show how many heads attention has: the file decides."""
        if not hasattr(typed, "num_heads"):
            return
        stated = {key: heads for key in network.HEADS if (heads := config.take(key, int)) is not None}
        if len(set(stated.values())) > 1:
            raise ValueError(
                f"{' and '.join(stated)} are {' and '.join(map(str, stated.values()))}: expected one number"
            )
        key, heads = next(iter(stated.items()), ("", None))
        if heads is None or heads == typed.num_heads:
            return
        changes = {"num_heads": heads}
        try:
            msgspec.convert(self.spec.config | changes, type(typed)).explicit()
        except ValueError as error:
            raise ValueError(f"{key} is {heads}: {one_line(str(error))}") from error
        self.result.config |= changes
        self._note(f"attention has {heads} heads, as {CONFIG} says; {self.spec.model} has {typed.num_heads}")

    def _dilation(self, config: Keys, typed: Any) -> None:
        """Weights do not show whether kernels are dilated (DC5): the file decides, unless the caller has."""
        if not hasattr(typed, "dilated"):
            return
        dilated = network.read_dilation(config, typed)
        if dilated is None:
            return
        if self.chosen and dilated != typed.dilated:
            raise ValueError(f"dilation is {plain(dilated)}, and {self.spec.model} was asked for: leave `model` out")
        self.result.config["dilated"] = dilated

    def _coordinates(self, architecture: object, keeps_aspect: bool | None, typed: Any) -> None:
        """Weights do not show whether positions keep the aspect ratio: the file decides, unless the caller has."""
        name = str(architecture or "").partition(".")[0]
        if self.spec.family != "navit" or (name not in list_models(family="navit") and keeps_aspect is None):
            return
        stated = "aspect" if keeps_aspect else "fractional"
        if keeps_aspect is None:
            stated = cast("NaViTConfig", model_entry(name).config).coordinates
        if self.chosen and stated != typed.coordinates:
            raise ValueError(f"positions are {stated}, and {self.spec.model} was asked for: leave `model` out")
        self.result.config["coordinates"] = stated

    def _norm_eps(self, config: Keys, typed: Any) -> None:
        """Weights do not show it either. Families with one for all have it checked as a key."""
        if self.spec.family != "vit":
            return
        eps = config.take("layer_norm_eps", float)
        if eps is not None and eps != typed.norm_eps:
            if not 0 < eps <= 1:
                raise ValueError(f"layer_norm_eps is {eps}, expected one above 0 and not above 1")
            self.result.config["norm_eps"] = eps
            self._note(f"norms have an eps of {eps:g}, as {CONFIG} says; the layout's is {typed.norm_eps:g}")

    def _image_size(self, stated: Any, key: str) -> None:
        """The size that the network was configured for, which holds where no image processor says another."""
        sides = tuple(stated) if isinstance(stated, list | tuple) else (stated, stated)
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"{key} is {plain(stated)}, which is not a size in pixels")
        self.configured = sides
        if "image_size" not in self.given and sides != self.spec.preprocessing.image_size:
            self.result.preprocessing = self.spec.preprocessing.at_size(*sides)
            self.result.preprocessing_source = f"{key} of {CONFIG}; the rest: {self.result.preprocessing_source}"

    def _labels(self, config: Keys, pretrained: Keys | None, is_timm: bool) -> None:
        names = dict[int, str] | tuple[str, ...]
        found = {
            "label_names": config.take("label_names", names),
            "id2label": config.take("id2label", dict[int, str]),
        }
        inverse = config.take("label2id", dict[str, int])
        if found["id2label"] and inverse and any(found["id2label"].get(inverse[name]) != name for name in inverse):
            self._note(f"label2id of {CONFIG} says otherwise than id2label, which is taken")
        if found["id2label"] is None and inverse is not None:
            found["id2label"] = {index: name for name, index in inverse.items()}
        if pretrained is not None:
            if offset := pretrained.take("label_offset", int):
                raise ValueError(f"label_offset is {offset}: classes would be counted from there")
            found["label_names"] = found["label_names"] or pretrained.take("label_names", names)
        order = ("label_names", "id2label") if is_timm else ("id2label", "label_names")
        key = next((each for each in order if found[each] is not None), None)
        if key is None or not self.classifies:
            return
        labels = found[key]
        if isinstance(labels, dict):
            labels = in_order(sorted(labels.items()))
            if isinstance(labels, str):
                raise ValueError(f"{key} does not number its classes from 0 without gaps")
        labels = tuple(labels)
        if len(labels) != self.spec.num_classes:
            raise _Elsewhere(f"{key} names {len(labels)} classes, but the head has {self.spec.num_classes}")
        placeholders = tuple(f"LABEL_{i}" for i in range(len(labels)))  # what transformers writes where none were given
        self.result.labels = None if labels == placeholders else labels

    def _read_preprocessing(self, timm: Keys | None) -> None:
        """timm's `pretrained_cfg` or transformers' file; where both are there, the one of the weights' own release."""
        processor, name = self.processor, PROCESSOR
        if processor is not None and "pretrained_cfg" in processor:  # transformers, around a network of timm
            timm, processor = processor.inside("pretrained_cfg"), None
        elif timm is not None:
            name = CONFIG
        if timm is not None and processor is not None:
            left, name = (CONFIG, PROCESSOR) if self.release.startswith("transformers") else (PROCESSOR, CONFIG)
            self._note(f"{left} prepares images as well and was not asked: {name} is of the weights' release")
            timm, processor = (None, processor) if name == PROCESSOR else (timm, None)
        keys = timm if timm is not None else processor
        if keys is None or self.given >= FIELDS:
            return
        try:
            if timm is not None:
                changes, harmless = from_timm(timm, self.result.preprocessing, self.given), TIMM_HARMLESS
                if timm.peek("fixed_input_size") and self.configured:  # timm then builds the network for that size
                    changes |= {"image_size": self.configured}
            else:
                changes, harmless = from_transformers(keys, self.result.preprocessing, self.given), PROCESSOR_HARMLESS
            self.result.preprocessing = changed(self.result.preprocessing, changes)
        except ValueError as error:
            reason = one_line(str(error), 400)
            raise CheckpointError(
                f"{self.source}: {name} prepares images in a way that is not reproduced here: {reason}"
            ) from error
        if self.configured not in (None, taken := self.result.preprocessing.image_size) and self.configured:
            sizes = " and ".join("x".join(map(str, size)) for size in (taken, self.configured))
            self._note(f"{name} and {CONFIG} state two image sizes, {sizes}: the first is taken")
        self.result.preprocessing_source = name
        if "image_size" not in self.given:
            self.result.notes += squash_note(keys, self.result.preprocessing)
        self._say_unknown(name, keys, harmless)

    def _say_unknown(self, name: str, keys: Keys, harmless: Collection[str]) -> None:
        self.result.notes += unknown_note(name, keys.left(harmless))

    def _note(self, text: str) -> None:
        self.result.notes += (text,)
