"""Step 2, identify: which network a file holds, by names and shapes alone.

Our own files say it in their header. Of others, names tell family and release, shapes the variant, and what these leave
open is read as options. Cheap evidence only decides where to look first: a match is one where each tensor of the
network is made of tensors of the file, in shape, and none of the file's is left over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import msgspec
from torch import Tensor

from mobilevit_sdk.checkpoints.checkpoint import HEADER_KEY
from mobilevit_sdk.checkpoints.description import describe
from mobilevit_sdk.checkpoints.key_maps import KeyMap, all_key_maps, own_key_map
from mobilevit_sdk.checkpoints.match import Match, match_network
from mobilevit_sdk.checkpoints.preparation import AS_STATED, Preparation
from mobilevit_sdk.checkpoints.tensor_file import TensorFile
from mobilevit_sdk.checkpoints.widths import read_widths
from mobilevit_sdk.checkpoints.wrappers import (
    MIN_KNOWN_SHARE,
    View,
    save_without,
    unwrap,
    with_plain_head,
    without_extras,
)
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.meta_model import tensor_shapes
from mobilevit_sdk.models.registry import Entry, model_entry, model_spec
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.text import one_line, shorten


def identify(file: TensorFile, model: str | None = None, preparation: Preparation = AS_STATED) -> Match:
    """What a file holds: a network, or a backbone without its classifier. `model` is the only variant that it may be.

    What stands beside the file is read but for what `preparation` decides. Raises CheckpointError that names what came
    nearest and what does not fit.
    """
    if HEADER_KEY in file.metadata:
        return _identify_own(file, model)
    return describe(match_release(file.tensors, model, file.source), file, preparation, chosen=model is not None)


def match_spec(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> Match:
    """How a file with our own names fits the network of `spec`. Raises what `build_model` raises."""
    return match_network(own_key_map(spec.family), spec, None, tensors, {})


def _identify_own(file: TensorFile, model: str | None) -> Match:
    """Compare the tensors with the spec in the header."""
    try:
        spec = msgspec.json.decode(file.metadata[HEADER_KEY], type=ModelSpec).entries[0]  # a network has one size
        if spec.num_classes < 1:
            raise ValueError("its head has no classes")
        match = match_spec(spec, file.tensors)
    except Exception as error:  # a strange config can make any layer's constructor fail in its own way
        reason = f"its config lacks {error}" if isinstance(error, KeyError) else one_line(str(error))
        raise CheckpointError(f"{file.source} has a header that describes no network of ours: {reason}") from error
    if model not in (None, spec.model):
        raise CheckpointError(f"{file.source} holds {spec.model}, not {model}")
    if match.problems:
        raise CheckpointError(f"{file.source} does not hold the network of its own header: {match.describe()}")
    return match


def match_release(tensors: Mapping[str, Tensor], model: str | None, source: str) -> Match:
    """The release and variant that explain every tensor of a file, or all but a missing classifier.

    `model` is the only variant that may, where it is given. Raises CheckpointError that names what came nearest and
    what does not fit.
    """
    entry = None if model is None else model_entry(model)
    view = unwrap(
        tensors, source, *(partial(_largest_share, share_of) for share_of in (_share_of_modules, _share_of_names))
    )
    best = _nearest(view.tensors, entry)
    if best is not None and best.fits:
        return _as_in_file(best, view)
    if entry is not None and (other := _nearest(view.tensors, None)) is not None and other.fits:
        reason = f"for {model} of {best.key_map.release}: {best.describe()}" if best else f"{model} has other names"
        if other.spec.model == model:
            raise CheckpointError(
                f"{source} holds a network like {model}, with widths of its own; name no model to take it as it is; "
                f"{reason}"
            )
        raise CheckpointError(f"{source} holds {other.spec.model}, not {model}; {reason}")
    if best is None:
        found = f"{len(tensors)} tensors ({shorten(list(tensors))})" if tensors else "no tensors"
        key_map, share = _nearest_key_map(view.tensors, _share_of_names)
        raise CheckpointError(
            f"{source} is of no network known here: it holds {found}; nearest, with {share:.0%} of the names, is "
            f"{key_map.release} ({key_map.family}); give a network of these families, its state_dict() as its own code "
            f"names it; layouts tried: {_tried()}"
        )
    after = f", its names after {view.prefix!r}," if view.prefix else ""
    notes = f" ({'; '.join(best.notes)})" if best.notes else ""
    raise CheckpointError(
        f"{source} is nearest to {best.spec.model} of {best.key_map.release}{after} but does not fit: "
        f"{best.describe()}{notes}; {_remedy(best, view)}; layouts tried: {_tried()}"
    )


def _largest_share(share_of: Callable[[KeyMap, set[str]], float], tensors: Mapping[str, Tensor]) -> float:
    return _nearest_key_map(tensors, share_of)[1]


def _as_in_file(match: Match, view: View) -> Match:
    """The match of a view, with the names that stand in the file and a note on what was taken off them."""
    names = {name: view.in_file[original] for name, original in match.names.items()}
    return dataclasses.replace(match, names=names, notes=(*view.notes, *match.notes))


def _remedy(match: Match, view: View) -> str:
    """What to do with a file that is near to a network but does not hold it."""
    if match.left_over and not match.missing and not match.misshapen:
        names = [view.in_file[match.names[name]] for name in match.left_over]
        return f"leave them out: {save_without(names, set(view.in_file.values()) - set(names))}"
    if match.missing and match.left_over and not match.misshapen:
        return f"rename its tensors, or load the weights into {match.spec.model} where it was trained and save that"
    return (
        "if it is another network, give its name as `model`; if it was changed, load the weights where they were "
        f"trained into {match.spec.model} and save that"
    )


def _tried() -> str:
    return ", ".join(f"{each.release} ({each.family})" for each in all_key_maps())


def _nearest(tensors: Mapping[str, Tensor], entry: Entry | None) -> Match | None:
    """How the file fits the nearest variant, or this one, of the nearest key map; None where no layout is near.

    Key maps tell the layout without building a network. Where what they tell does not fit, names decide: a map may
    leave out what has the same name in both.
    """
    best: Match | None = None
    for share_of in (_share_of_modules, _share_of_names):
        key_map, share = _nearest_key_map(tensors, share_of, entry.family if entry else None)
        if share >= MIN_KNOWN_SHARE and (best is None or best.key_map != key_map):
            match = _best(key_map, [entry] if entry else key_map.entries(), tensors)
            best = match if best is None or match.problems < best.problems else best
        if best is not None and best.fits:
            break
    return best if best is None or best.fits else _sibling(best, tensors, entry) or best


def _sibling(best: Match, tensors: Mapping[str, Tensor], entry: Entry | None) -> Match | None:
    """The fit of a release whose names are the same but for what the family's first variant lacks; None without one."""
    for key_map in (each for each in all_key_maps() if each.family == best.key_map.family and each != best.key_map):
        if _known_names(key_map) == _known_names(best.key_map):
            match = _best(key_map, [entry] if entry else key_map.entries(), tensors)
            if match.fits:
                return match
    return None


def _nearest_key_map(
    tensors: Mapping[str, Tensor], share_of: Callable[[KeyMap, set[str]], float], family: str | None = None
) -> tuple[KeyMap, float]:
    """The key map whose names are nearest to the file's, and the share that both have, from 0 to 1."""
    key_maps = [key_map for key_map in all_key_maps() if family in (None, key_map.family)]
    shares = [share_of(key_map, set(key_map.strip(tensors))) for key_map in key_maps]
    share = max(shares)
    return key_maps[shares.index(share)], share


def _share_of_modules(key_map: KeyMap, names: set[str]) -> float:
    known = _known_modules(key_map)
    found = {name if name in known else name.rpartition(".")[0] for name in names}
    return len(known & found) / max(1, len(known | found))


@cache
def _known_modules(key_map: KeyMap) -> frozenset[str]:
    """The modules with tensors in the family's first variant, as the layout names them and as far as maps list them."""
    theirs = _modules(key_map)
    ours = {name for each in all_key_maps() if each.family == key_map.family for name in _modules(each)}
    return frozenset(each for name in ours for each in theirs.get(name, (name,)))


@cache
def _modules(key_map: KeyMap) -> Mapping[str, tuple[str, ...]]:
    return key_map.modules(key_map.entries()[0].config)


def _share_of_names(key_map: KeyMap, names: set[str]) -> float:
    known = _known_names(key_map)
    return len(known & names) / len(known | names)


@cache
def _known_names(key_map: KeyMap) -> frozenset[str]:
    """The tensors of the family's first variant, as the layout names them."""
    entry = key_map.entries()[0]
    sources = key_map.sources(entry.config, tensor_shapes(model_spec(entry.name)))
    return frozenset(name for theirs in sources.values() for name in theirs)


def _best(key_map: KeyMap, entries: list[Entry], tensors: Mapping[str, Tensor]) -> Match:
    """The first match without problems, in the order of likelihood; without any, the one with the fewest.

    What stands beside the network is left, and a plain linear layer is taken for its classifier.
    """
    known = partial(_known_names, key_map)
    kept, left = without_extras(tensors, known)
    stripped = key_map.strip(kept)
    new, taken = with_plain_head(stripped, _classifier(key_map), known)
    names = {new.get(ours, ours): name for ours, name in zip(stripped, kept, strict=True)}
    best = _best_of(key_map, entries, {name: tensors[each] for name, each in names.items()})
    if taken and best.lacks_only(key_map.classifier_norm):
        taken = (*taken, f"{key_map.classifier_norm} changes nothing: the file has none before its classifier")
        best = dataclasses.replace(best, missing={}, neutral_norm=key_map.classifier_norm)
    in_view = {name: names[each] for name, each in best.names.items()}
    return dataclasses.replace(best, names=in_view, notes=(*left, *taken))


def _classifier(key_map: KeyMap) -> str:
    """The release's name of the last linear layer."""
    return key_map.sources(key_map.entries()[0].config, [key_map.classifier])[key_map.classifier][0]


def _best_of(key_map: KeyMap, entries: list[Entry], tensors: Mapping[str, Tensor]) -> Match:
    best: Match | None = None
    for match in _matches(key_map, entries, tensors):
        if best is None or match.problems < best.problems:
            best = match
        if not best.problems:
            break
    assert best is not None
    if best.misshapen and not best.fits:
        return _match_widths(key_map, entries, tensors) or best
    return best


def _match_widths(key_map: KeyMap, entries: list[Entry], tensors: Mapping[str, Tensor]) -> Match | None:
    """How the file fits a network of its own widths, called after the registered one that is nearest in size.

    A single entry, which the caller insists on, is taken with another number of input channels alone.
    """
    parameters = sum(tensor.numel() for tensor in tensors.values() if tensor.ndim)
    stripped = key_map.strip(tensors)
    for entry in sorted(entries, key=lambda entry: abs(math.log(_parameters(entry.name) / max(1, parameters)))):
        options, complaint = _options(key_map, entry, stripped, all_widths=len(entries) > 1)
        match = _match_entry(key_map, entry, options, complaint, tensors)
        if match.fits:
            return match
    return None


@cache
def _parameters(model: str) -> int:
    return sum(math.prod(shape) for shape in tensor_shapes(model_spec(model)).values() if shape)


def _matches(key_map: KeyMap, entries: list[Entry], tensors: Mapping[str, Tensor]) -> Iterator[Match]:
    """How the file fits each entry. The likeliest first: its widths occur in the file, few options are others."""
    stripped, candidates = key_map.strip(tensors), []
    sides = {side for tensor in tensors.values() for side in tensor.shape}
    for entry in entries:
        options, complaint = _options(key_map, entry, stripped)
        config = msgspec.structs.replace(entry.config, **options)
        widths = _integers(msgspec.to_builtins(config))
        candidates.append((len(widths - sides) / len(widths), len(options), entry, options, complaint))
    candidates.sort(key=lambda candidate: candidate[:2])  # stable: the registry's order breaks ties
    for _, _, entry, options, complaint in candidates:
        yield _match_entry(key_map, entry, options, complaint, tensors)


def _match_entry(
    key_map: KeyMap, entry: Entry, options: dict[str, Any], complaint: list[str], tensors: Mapping[str, Tensor]
) -> Match:
    """How the file fits an entry whose config has these options; `complaint` are problems with them, in words."""
    spec = model_spec(entry.name, **options)
    if key_map.preprocessing is not None:
        spec = msgspec.structs.replace(spec, preprocessing=key_map.preprocessing(spec))
    options.pop("num_classes", None)
    try:
        match = match_network(key_map, spec, msgspec.structs.replace(entry.config, **options), tensors, options)
    except Exception as error:  # these options make no network, each in its own way
        match = match_network(key_map, model_spec(entry.name), entry.config, tensors, {})
        complaint = [f"options: {one_line(str(error))}"]
    match.misshapen.extend(complaint)
    return match


def _options(
    key_map: KeyMap, entry: Entry, tensors: Mapping[str, Tensor], all_widths: bool | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The fields of the entry's config that the file sets otherwise; in words, what in them no config can hold.

    With `all_widths` the input's channels are among them (False), or every width that shapes show (True).
    """
    config, weight = entry.config, f"{key_map.classifier}.weight"
    head = tensors.get(key_map.sources(config, [weight])[weight][0])
    rows = len(head) - key_map.no_class if head is not None and head.ndim == 2 and head.numel() else 0
    classes = {"num_classes": rows} if rows > 0 else {}
    try:
        shown = {} if all_widths is None else read_widths(key_map, config, tensors, all_of_them=all_widths)
        found = classes | shown | key_map.options(tensors)
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
