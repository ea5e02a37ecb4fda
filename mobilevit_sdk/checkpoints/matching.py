"""Which network a file holds: family and release by its names, variant by its shapes, options by what these leave open.

Cheap evidence only decides where to look first. A match is one where each tensor of the network is made of tensors of
the file, in shape, and none of the file's is left over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.key_maps import KeyMap, all_key_maps, own_key_map
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.meta_model import Shape, build_bare_on_meta, build_on_meta, tensor_shapes
from mobilevit_sdk.models.registry import Entry, list_models, model_entry, model_spec
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.text import one_line, shorten

STEP_COUNT = "num_batches_tracked"
_KNOWN_SHARE = 0.25  # of names in common with the nearest layout, below which a file is of some other network


@dataclass(frozen=True)
class Match:
    """How a file fits a network: which of its tensors make each of ours, and what stands in the way.

    Names are the layout's, without its prefix; `names` gives those of the file.
    """

    spec: ModelSpec
    config: Any  # the spec's, as its family's type; None for our own layout, which needs none
    layout: KeyMap
    network: nn.Module  # without weights, see `mobilevit_sdk.build_on_meta`
    has_buffers: bool  # whether what the network computes by itself is in it
    tensors: dict[str, Tensor]  # types and shapes alone
    names: dict[str, str]
    sources: dict[str, tuple[str, ...]]  # our name -> theirs; not of tensors that are missing
    derived: dict[str, str]  # theirs -> our buffer that it must equal
    missing: dict[str, str]  # theirs -> ours
    left_over: list[str]
    misshapen: list[str]
    lacks_counts: bool  # BatchNorm's of training steps: older files have none, and inference does not read them
    options: dict[str, Any]  # fields of the config that are not the registered variant's, the class count aside

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
        name = f"{self.layout.classifier}.weight"
        return next((theirs for theirs, ours in self.missing.items() if ours == name), None) or self.sources[name][0]

    @property
    def is_backbone(self) -> bool:
        """Whether nothing is wrong but that the classifier is not there."""
        head = {f"{self.layout.classifier}.weight", f"{self.layout.classifier}.bias"}
        roots = (self.layout.classifier.split(".")[0], *self.layout.backbone_lacks)
        lacking = set(self.missing.values())
        return (
            head <= lacking
            and len(self.missing) == self.problems
            and all(name.startswith(tuple(f"{root}." for root in roots)) for name in lacking)
        )

    def describe(self) -> str:
        kinds = (("missing", [*self.missing]), ("left over", self.left_over), ("of another shape", self.misshapen))
        return "; ".join(f"{len(names)} {kind} ({shorten(names)})" for kind, names in kinds if names)


def match_release(tensors: Mapping[str, Tensor], model: str | None, source: str) -> Match:
    """The release and variant that explain every tensor of a file, or all but a missing classifier.

    `model` is the only variant that may, where it is given. Raises CheckpointError that names what came nearest and
    what does not fit.
    """
    entry = None if model is None else model_entry(model)
    best = _nearest(tensors, entry)
    if best is not None and best.fits:
        return best
    if entry is not None and (other := _nearest(tensors, None)) is not None and other.fits:
        reason = f"for {model} of {best.layout.release}: {best.describe()}" if best else f"{model} has other names"
        raise CheckpointError(f"{source} holds {other.spec.model}, not {model}; {reason}")
    if best is None:
        found = f"{len(tensors)} tensors ({shorten(list(tensors))})" if tensors else "no tensors"
        layout, share = _nearest_layout(tensors, _share_of_names)
        raise CheckpointError(
            f"{source} is of no network known here: it holds {found}; nearest, with {share:.0%} of the names, is "
            f"{layout.release} ({layout.family}); layouts tried: {_tried()}"
        )
    raise CheckpointError(
        f"{source} is nearest to {best.spec.model} of {best.layout.release} but does not fit: {best.describe()}; "
        f"layouts tried: {_tried()}"
    )


def _tried() -> str:
    return ", ".join(f"{each.release} ({each.family})" for each in all_key_maps())


def match_header(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> Match:
    """How a file of ours fits the network that its own header describes. Raises what `build_model` raises."""
    return _compare(own_key_map(spec.family), spec, None, tensors, {})


def _nearest(tensors: Mapping[str, Tensor], entry: Entry | None) -> Match | None:
    """How the file fits the nearest variant, or this one, of the nearest layout; None where no layout is near.

    Key maps tell the layout without building a network. Where what they tell does not fit, names decide: a map may
    leave out what has the same name in both.
    """
    best: Match | None = None
    for share_of in (_share_of_modules, _share_of_names):
        layout, share = _nearest_layout(tensors, share_of, entry.family if entry else None)
        if share >= _KNOWN_SHARE and (best is None or best.layout != layout):
            match = _best(layout, [entry] if entry else list_models(layout.family), tensors)
            best = match if best is None or match.problems < best.problems else best
        if best is not None and best.fits:
            break
    return best


def _nearest_layout(
    tensors: Mapping[str, Tensor], share_of: Callable[[KeyMap, set[str]], float], family: str | None = None
) -> tuple[KeyMap, float]:
    """The layout whose names are nearest to the file's, and the share that both have, from 0 to 1."""
    layouts = [layout for layout in all_key_maps() if family in (None, layout.family)]
    shares = [share_of(layout, set(layout.strip(tensors))) for layout in layouts]
    share = max(shares)
    return layouts[shares.index(share)], share


def _share_of_modules(layout: KeyMap, names: set[str]) -> float:
    known = _known_modules(layout)
    found = {name if name in known else name.rpartition(".")[0] for name in names}
    return len(known & found) / max(1, len(known | found))


@cache
def _known_modules(layout: KeyMap) -> frozenset[str]:
    """The modules with tensors in the family's first variant, as the layout names them and as far as maps list them."""
    theirs = _modules(layout)
    ours = {name for each in all_key_maps() if each.family == layout.family for name in _modules(each)}
    return frozenset(each for name in ours for each in theirs.get(name, (name,)))


@cache
def _modules(layout: KeyMap) -> Mapping[str, tuple[str, ...]]:
    return layout.modules(list_models(layout.family)[0].config)


def _share_of_names(layout: KeyMap, names: set[str]) -> float:
    known = _known_names(layout)
    return len(known & names) / len(known | names)


@cache
def _known_names(layout: KeyMap) -> frozenset[str]:
    """The tensors of the family's first variant, as the layout names them."""
    entry = list_models(layout.family)[0]
    sources = layout.sources(entry.config, tensor_shapes(model_spec(entry.name)))
    return frozenset(name for theirs in sources.values() for name in theirs)


def _best(layout: KeyMap, entries: list[Entry], tensors: Mapping[str, Tensor]) -> Match:
    """The first match without problems, in the order of likelihood; without any, the one with the fewest."""
    best: Match | None = None
    for match in _matches(layout, entries, tensors):
        if best is None or match.problems < best.problems:
            best = match
        if not best.problems:
            break
    assert best is not None
    return best


def _matches(layout: KeyMap, entries: list[Entry], tensors: Mapping[str, Tensor]) -> Iterator[Match]:
    """How the file fits each entry. The likeliest first: its widths occur in the file, few options are others."""
    stripped = layout.strip(tensors)
    sides = {side for tensor in tensors.values() for side in tensor.shape}
    candidates = []
    for entry in entries:
        options, complaint = _options(layout, entry, stripped)
        config = msgspec.structs.replace(entry.config, **options)
        widths = _integers(msgspec.to_builtins(config))
        candidates.append((len(widths - sides) / len(widths), len(options), entry, options, complaint))
    candidates.sort(key=lambda candidate: candidate[:2])  # stable: the registry's order breaks ties
    for _, _, entry, options, complaint in candidates:
        spec = model_spec(entry.name, **options)
        if layout.preprocessing is not None:
            spec = msgspec.structs.replace(spec, preprocessing=layout.preprocessing(spec))
        options.pop("num_classes", None)
        try:
            match = _compare(layout, spec, msgspec.structs.replace(entry.config, **options), tensors, options)
        except Exception as error:  # these options make no network, each in its own way
            match = _compare(layout, model_spec(entry.name), entry.config, tensors, {})
            complaint = [f"options: {one_line(str(error))}"]
        match.misshapen.extend(complaint)
        yield match


def _options(layout: KeyMap, entry: Entry, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
    """The fields of the entry's config that the file sets otherwise; in words, what in them no config can hold."""
    config = entry.config
    weight = f"{layout.classifier}.weight"
    head = tensors.get(layout.sources(config, [weight])[weight][0])
    classes = {"num_classes": len(head)} if head is not None and head.ndim == 2 and head.numel() else {}
    try:
        found = classes | layout.options(tensors)
        changed = msgspec.convert(msgspec.to_builtins(config) | msgspec.to_builtins(found), type(config))
    except Exception as error:  # a strange shape can make it fail in its own way
        return classes, [f"options: {one_line(str(error))}"]
    values = {name: getattr(changed, name) for name in found}
    return {name: value for name, value in values.items() if value != getattr(config, name)}, []


def _integers(value: Any) -> set[int]:
    """All integers in plain data."""
    if isinstance(value, dict):
        return _integers(list(value.values()))
    if isinstance(value, list | tuple):
        return {number for each in value for number in _integers(each)}
    return {value} if isinstance(value, int) and not isinstance(value, bool) else set()


def _compare(
    layout: KeyMap, spec: ModelSpec, config: Any, tensors: Mapping[str, Tensor], options: dict[str, Any]
) -> Match:
    """Set what the network of `spec` needs against what a file holds, name by name and shape by shape."""
    # A config that a file has made up may claim any size: nothing is computed for it before the file has proven it.
    known = _is_registered(spec)
    network = build_on_meta(spec) if known else build_bare_on_meta(spec)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    stripped = layout.strip(tensors)
    sources: dict[str, tuple[str, ...]] = {}
    missing: dict[str, str] = {}
    misshapen: list[str] = []
    lacks_counts = False
    wanted = layout.sources(config, shapes)
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
    derived = {theirs: ours for theirs, ours in layout.derived(config).items() if theirs in stripped}
    used = {name for theirs in wanted.values() for name in theirs} | derived.keys()
    return Match(
        spec=spec,
        config=config,
        layout=layout,
        network=network,
        has_buffers=known or all(name in shapes for name, _ in network.named_buffers()),
        tensors=stripped,
        names=dict(zip(stripped, tensors, strict=True)),
        sources=sources,
        derived=derived,
        missing=missing,
        left_over=[name for name in stripped if name not in used],
        misshapen=misshapen,
        lacks_counts=lacks_counts,
        options=options,
    )


def _is_registered(spec: ModelSpec) -> bool:
    names = {entry.name for entry in list_models(spec.family)}
    return spec.model in names and spec.config == model_spec(spec.model, num_classes=spec.num_classes).config


def _stacked_shape(shapes: list[Shape]) -> Shape | None:
    """The shape of tensors stacked along the first axis; None where they cannot be."""
    if len(shapes) == 1:
        return shapes[0]
    if len({shape[1:] for shape in shapes}) > 1 or () in shapes:
        return None
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])
