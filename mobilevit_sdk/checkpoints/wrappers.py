"""What training code puts around the names of a network's tensors, and the tensors that it puts beside them.

A wrapper is a prefix (`module.`, `net.backbone.`) or, from torch's own wrappers, a segment anywhere (`_orig_mod.`).
Beside the network stand criteria, metrics, and the counters of profilers and averages. None of this depends on a list
of prefixes: every beginning that many names share is a candidate, and `identify` takes the one whose names it knows.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.text import count, one_line, shorten

# Modules that torch itself puts anywhere between others: torch.compile, FullyShardedDataParallel, checkpoint_wrapper.
_SEGMENTS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_MAX_DEPTH = 12  # of prefixes: networks themselves nest up to 10 modules
_MIN_SHARE = 1 / 8  # of all names that a prefix stands before

MIN_KNOWN_SHARE = 0.25  # of names in common with the nearest key map, below which a file is of some other network
_CERTAIN_SHARE = 0.5  # from which on names are taken as they are, without a look at prefixes
_MAX_SHOWN = 3  # modules in what to type
_EQUAL = 0.02  # of two shares: the files of one network may differ in a head

_COUNTERS = {"total_ops", "total_params", "n_averaged", "initted", "step", "num_updates", "update_count", "global_step"}
_NO_NETWORK = {
    *("criterion", "loss", "losses", "metric", "metrics", "acc", "accuracy", "top1", "top5", "auroc", "auc"),
    *("f1", "precision", "recall", "confmat", "confusion", "kappa", "ece"),
}
_AVERAGED = re.compile(r"(?:^|[._])(?:ema|averaged?|avg|swa|shadow|polyak)(?=[._]|$)")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True)
class View:
    """The tensors of a file under names without wrappers."""

    prefix: str  # that was taken off
    tensors: dict[str, Tensor]
    in_file: dict[str, str]  # name without wrappers -> name in the file
    inside: frozenset[str]  # those of the names that had the prefix
    notes: tuple[str, ...]

    def is_apart(self, other: View) -> bool:
        """Whether neither prefix stands within the other."""
        return not (self.prefix.startswith(other.prefix) or other.prefix.startswith(self.prefix))

    def without(self, other: View) -> View:
        """What is left when the tensors within the other's prefix are."""
        theirs = {other.in_file[name] for name in other.inside}
        kept = {name: tensor for name, tensor in self.tensors.items() if self.in_file[name] not in theirs}
        note = f"took {self.prefix}, averaged weights (EMA), and left {count(theirs, 'tensor')} of {other.prefix}"
        return dataclasses.replace(self, tensors=kept, notes=(*self.notes, note))


def unwrap(tensors: Mapping[str, Tensor], source: str, *shares: Callable[[Mapping[str, Tensor]], float]) -> View:
    """The tensors without the prefix after which most names are known; as they are where no prefix helps.

    `shares` tell how many of the names are known, from 0 to 1; the first that finds a network decides. Where prefixes
    hold a network each, the one of averaged weights is taken. Raises CheckpointError where none says that it is.
    """
    for share_of in shares:
        ranked: list[tuple[float, View]] = []
        for view in _views(tensors):
            ranked.append((share_of({name: view.tensors[name] for name in view.inside}), view))
            if not view.prefix and ranked[0][0] >= _CERTAIN_SHARE:
                return view
        share, best = max(ranked, key=lambda each: each[0])  # of equals the shortest prefix
        if share >= MIN_KNOWN_SHARE:
            break
    else:
        return ranked[0][1]
    rivals = [best, *(view for other, view in ranked if other > share - _EQUAL and view.is_apart(best))]
    averaged = [view for view in rivals if is_averaged(view.prefix)]
    if len(rivals) > 1 and len(averaged) != 1:
        names = ", ".join(view.prefix for view in rivals)
        raise CheckpointError(
            f"{source} holds {len(rivals)} networks, their names after {names}; save the one to use: "
            f"weights = {{n: w for n, w in weights.items() if n.startswith({best.prefix!r})}}"
        )
    if len(rivals) > 1:
        best = averaged[0]
        for rival in rivals:
            best = best if rival is best else best.without(rival)
    return best


def save_without(names: Iterable[str], kept: Iterable[str]) -> str:
    """What to type to keep all tensors of a file but these: by modules, where a module holds none that is kept."""
    modules = {f"{name[:end]}." for name in kept for end in range(len(name)) if name[end] == "."}
    left = dict.fromkeys(_shortest(name, modules) for name in names)
    shown = ", ".join(repr(one_line(each)) for each in [*left][:_MAX_SHOWN])
    more = ", ..." if len(left) > _MAX_SHOWN else ","
    return f"weights = {{n: w for n, w in weights.items() if not n.startswith(({shown}{more}))}}"


def _shortest(name: str, modules: set[str]) -> str:
    """The outermost module of a tensor that is not among `modules`; its whole name where all are."""
    outer = (name[: end + 1] for end in range(len(name)) if name[end] == ".")
    return next((module for module in outer if module not in modules), name)


def _views(tensors: Mapping[str, Tensor]) -> Iterator[View]:
    """The tensors as they are, then without each prefix that many of them share; torch's own segments always go."""
    in_file = {_SEGMENTS.sub("", name): name for name in tensors}
    if len(in_file) < len(tensors):  # two would have the same name
        in_file = {name: name for name in tensors}
    changed = [name for name, original in in_file.items() if name != original]
    notes = (f"took _orig_mod or its like out of {count(changed, 'name')}",) if changed else ()
    for prefix in _prefixes(in_file):
        inside = {name.removeprefix(prefix): original for name, original in in_file.items() if name.startswith(prefix)}
        # What stands outside keeps its name, marked where one inside has the same.
        outside = {
            name if name not in inside else f"..{name}": original
            for name, original in in_file.items()
            if not name.startswith(prefix)
        }
        names = inside | outside
        said = (f"took {prefix} off {count(inside, 'name')}",) if prefix else ()
        yield View(
            prefix, {name: tensors[each] for name, each in names.items()}, names, frozenset(inside), (*notes, *said)
        )


def _prefixes(names: Iterable[str]) -> list[str]:
    """The empty one and those that stand before enough of the names, the shortest first."""
    names = list(names)
    found: Counter[str] = Counter()
    for name in names:
        end = name.find(".")
        for _ in range(_MAX_DEPTH):
            if end < 0:
                break
            found[name[: end + 1]] += 1
            end = name.find(".", end + 1)
    shared = [prefix for prefix, times in found.items() if times >= max(2, _MIN_SHARE * len(names))]
    return ["", *sorted(shared, key=len)]


def is_averaged(path: str) -> bool:
    """Whether a name, or a path of names, says that weights are averages over the training."""
    return _AVERAGED.search(_CAMEL.sub("_", path).lower()) is not None


def is_beside_network(name: str) -> bool:
    """Whether a tensor's name says that it belongs to a criterion, a metric, a profiler or a count of steps."""
    *_, leaf = segments = name.lower().split(".")
    return leaf in _COUNTERS or any(word in _NO_NETWORK for segment in segments for word in segment.split("_"))


def without_extras(
    tensors: Mapping[str, Tensor], known: Callable[[], frozenset[str]]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors but those beside the network, unless a network has them (`known`), and a note on what was left."""
    left = [name for name in tensors if is_beside_network(name)]
    if left:
        left = [name for name in left if name not in known()]
    if not left:
        return dict(tensors), ()
    note = f"left {count(left, 'tensor')} of no network: {shorten(left)}"
    return {name: tensor for name, tensor in tensors.items() if name not in set(left)}, (note,)


def with_plain_head(
    tensors: Mapping[str, Tensor], classifier: str, known: Callable[[], frozenset[str]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """New names where a linear layer stands in for the classifier, and a note on it.

    It is the one whose weight and bias are the only tensors that no module of the network can own: `fc`, or
    `classifier.1` in a Sequential with dropout. `known` are the tensors of a variant, whose classifier is `classifier`.
    """
    if f"{classifier}.weight" in tensors or f"{classifier}.bias" in tensors:
        return {}, ()
    names, root = known(), classifier.split(".")[0]
    roots = {name.split(".")[0] for name in names} - {root}
    alone = {name for name in tensors if name not in names and name.split(".")[0] not in roots}
    heads = {name.removesuffix(".weight") for name in alone if name.endswith(".weight")}
    if len(heads) != 1 or alone != {f"{head}.{leaf}" for head in heads for leaf in ("weight", "bias")}:
        return {}, ()
    (head,) = heads
    weight, bias = tensors[f"{head}.weight"], tensors[f"{head}.bias"]
    if weight.ndim != 2 or tuple(bias.shape) != tuple(weight.shape[:1]):
        return {}, ()
    new = {f"{head}.{leaf}": f"{classifier}.{leaf}" for leaf in ("weight", "bias")}
    return new, (f"took {head} as the classifier ({classifier})",)
