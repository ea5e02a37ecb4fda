"""What a checkpoint and an artifact both carry: which model, with which config, fed how, with which labels."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.spec.parts import (
    BOXES,
    FEATURES,
    HEADER,
    LOGITS,
    RESERVED_NAMES,
    TASK_NAME,
    Features,
    Output,
    Preprocessing,
    Strict,
    Windows,
    check_image_sizes,
    nearest_size,
)


class MemoryTask(Strict, frozen=True):
    """A task that a trained network answers beside its own, from the same computation: `layers.memory`.

    It sees `cells` learned memory tokens in each block, and those of the tasks that it `extends`.
    """

    name: Annotated[str, msgspec.Meta(pattern=TASK_NAME)]
    num_classes: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    cells: Annotated[int, msgspec.Meta(ge=0, le=1024)]
    labels: tuple[str, ...] | None = None
    extends: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name in RESERVED_NAMES:
            raise ValueError(f"{self.name!r} means something else in phone files: give the task another name")
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise ValueError(f"the task {self.name} has {len(self.labels)} labels for {self.num_classes} classes")


class ModelSpec(Strict, frozen=True, kw_only=True):
    """A model in full. `config` is the family's own config as plain data, so that a pruned network reloads as it is."""

    model: str
    family: str
    config: dict[str, Any]
    preprocessing: Preprocessing
    preprocessing_source: str | None = None  # in words, what says so: a file, the release, or who asked for it
    # The features that a network returns: its last map, [C, h, w], or the mean of that, [C]; in place of class scores,
    # unless `scores` says that it returns both. The files of plain classifiers have neither field.
    features: Features | msgspec.UnsetType = msgspec.UNSET
    scores: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    tasks: tuple[MemoryTask, ...] | msgspec.UnsetType = msgspec.UNSET  # answered beside the network's own
    # All input sizes, height and width in pixels, that a phone file has an entry for; the first is `preprocessing`'s.
    # `windows` is what became of a network's windows at them. The files of one size have neither field.
    image_sizes: tuple[tuple[int, int], ...] | msgspec.UnsetType = msgspec.UNSET
    windows: Windows | msgspec.UnsetType = msgspec.UNSET
    labels: tuple[str, ...] | None = None
    license: str | None = msgspec.field(default=None, name="licence")  # spelled so in every file written so far
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("config", "provenance"):  # lists for tuples, as JSON has it: a spec equals itself read back
            msgspec.structs.force_setattr(self, name, msgspec.json.decode(msgspec.json.encode(getattr(self, name))))
        if self.scores and not self.features:
            raise ValueError("scores is said of networks that return features, too; a classifier returns them anyway")
        if not self.returns_scores and not self.num_queries and self.labels is not None:
            raise ValueError("labels name classes, and a network that returns features has none")
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise ValueError(f"{len(self.labels)} labels for a head with {self.num_classes} classes")
        if self.num_queries and (self.tasks or self.features):
            raise ValueError("a network that answers with boxes returns no features and answers no tasks")
        if self.tasks and self.features:
            raise ValueError("a network returns features or answers several tasks, not both")
        if self.image_sizes is not msgspec.UNSET:
            check_image_sizes(self.image_sizes)
            if self.image_sizes[0] != self.preprocessing.image_size or self.features == "map":
                raise ValueError("image_sizes begins with another size than preprocessing has, or has maps of several")
        known: set[str] = set()
        for task in self.tasks or ():
            if task.name in known:
                raise ValueError(f"there are two tasks called {task.name!r}")
            if unknown := set(task.extends) - known:
                raise ValueError(f"the task {task.name} extends {min(unknown)!r}, which must stand before it")
            known.add(task.name)

    @property
    def num_classes(self) -> int:
        return int(self.config["num_classes"])

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """All input sizes, height and width, one or several."""
        return self.image_sizes or (self.preprocessing.image_size,)

    @property
    def entries(self) -> tuple[ModelSpec, ...]:
        """For each input size the spec of a file that has it alone, but for the config, which is that of the first."""
        alone = dict.fromkeys(("image_sizes", "windows"), msgspec.UNSET)
        return tuple(
            msgspec.structs.replace(self, preprocessing=self.preprocessing.at_size(*size), **alone)
            for size in self.sizes
        )

    def preprocessing_for(self, width: int, height: int) -> Preprocessing:
        """How an upright picture of this size, in pixels, is prepared: for the entry of the nearest aspect ratio."""
        if not self.image_sizes:
            return self.preprocessing
        return self.preprocessing.at_size(*nearest_size(width, height, self.image_sizes))

    @property
    def num_queries(self) -> int:
        """How many boxes a detector answers with; 0 for all other networks."""
        return int(self.config.get("num_queries", 0))

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the network returns, in the order in which its answers stand one after the other in a row."""
        if queries := self.num_queries:
            classes = self.num_classes + 1
            return (
                Output(name=LOGITS, kind="query-scores", classes=classes, labels=self.labels, queries=queries),
                Output(name=BOXES, kind="boxes", queries=queries),
            )
        own = Output(name=LOGITS, kind="scores", classes=self.num_classes, labels=self.labels)
        scores = (own,) if self.returns_scores else ()
        if self.features:
            return (*scores, Output(name=FEATURES, kind="features"))
        tasks = (
            Output(name=task.name, kind="scores", classes=task.num_classes, labels=task.labels)
            for task in self.tasks or ()
        )
        return (*scores, *tasks)

    @property
    def returns_scores(self) -> bool:
        """Whether class scores of the image are among the answers."""
        return not self.num_queries and (not self.features or bool(self.scores))

    def describe(self) -> str:
        """What the network does, in a few words."""
        if self.num_queries:
            return f"Object detector with {self.num_classes} classes and {self.num_queries} boxes"
        if not self.returns_scores:
            return "Image features"
        more = ", and image features" if self.features else ""
        more += "".join(f", and {task.num_classes} of {task.name}" for task in self.tasks or ())
        return f"Image classifier with {self.num_classes} classes{more}"

    def require_scores(self, what: str, *, alone: bool = False) -> None:
        """Raise RequestError where `what` needs class scores, or with `alone` a classifier, and this is none."""
        if not self.returns_scores:
            found = "answers with boxes" if self.num_queries else "returns features"
            raise RequestError(f"{what} needs class scores, but this {self.model} {found}; give a classifier")
        if alone and len(self.outputs) > 1:
            names = " and ".join(output.name for output in self.outputs)
            remedy = "take its base without tasks" if self.tasks else "leave out `features`"
            raise RequestError(f"{what} needs a plain classifier, but this {self.model} returns {names}; {remedy}")

    @property
    def config_sha256(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self.config, order="sorted")).hexdigest()

    def describe_preprocessing(self) -> str:
        """One line for people: how images are prepared, and what says so."""
        return describe_preprocessing(self.preprocessing, self.preprocessing_source)

    def of_output(self, name: str | None) -> ModelSpec:
        """A plain classifier with the classes and labels of this output, by default of the network's own scores.

        Its config is no longer the network's. Raises RequestError for a name that is no output with scores.
        """
        self.require_scores("what was asked")
        known = {output.name: output for output in self.outputs if output.kind == "scores"}
        if name is not None and name not in known:
            tasks = ", ".join(task.name for task in self.tasks or ()) or "none beside its own classes"
            raise RequestError(f"this {self.model} answers no task called {name!r}; it has {tasks}")
        output = known[name or LOGITS]
        config = {**self.config, "num_classes": output.classes}
        alone = dict.fromkeys(("features", "scores", "tasks"), msgspec.UNSET)
        return msgspec.structs.replace(self, config=config, labels=output.labels, **alone)

    def with_features(self, kind: Features, *, scores: bool) -> ModelSpec:
        """The same network where it returns features, and class scores if `scores`."""
        if self.num_queries:
            raise RequestError(f"{self.model} answers with boxes and returns no features: leave out `features`")
        if scores:
            return msgspec.structs.replace(self, features=kind, scores=True)
        return msgspec.structs.replace(self, features=kind, scores=msgspec.UNSET, labels=None)

    def with_labels(self, labels: tuple[str, ...], source: str) -> ModelSpec:
        """The same model with class names, in the order of the classes; their number must be the head's.

        A detector's "no object" has none.
        """
        if not self.num_queries:
            self.require_scores(f"labels ({source})")
        if len(labels) != self.num_classes:
            raise RequestError(f"{source} holds {len(labels)} labels, but the head has {self.num_classes} classes")
        return msgspec.structs.replace(self, labels=labels)


def describe_preprocessing(preprocessing: Preprocessing, source: str | None) -> str:
    """How images are prepared and what says so, by default the header of a checkpoint of ours, in a line for people."""
    return f"{preprocessing.describe()} ({source or HEADER})"


class TaskOrigin(Strict, frozen=True):
    """The file that a task came from."""

    source: str
    sha256: str


class Origin(Strict, frozen=True):
    """Where weights came from: a checkpoint's source, layout and hash, or the seed of random ones, and task files."""

    source: str
    layout: str
    sha256: str | None = None
    random_weights_seed: int | None = None
    tasks: tuple[TaskOrigin, ...] | msgspec.UnsetType = msgspec.UNSET
