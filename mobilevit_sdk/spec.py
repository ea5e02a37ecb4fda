"""What a checkpoint and an artifact both carry: which model, with which config, fed how, with which labels."""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from mobilevit_sdk.errors import RequestError

Windows = Literal["keep", "scale"]
HEADER = "the header of the checkpoint"  # what says how images are prepared where nothing else does
Features = Literal["pooled", "map"]
LOGITS, FEATURES, BOXES = "logits", "features", "boxes"  # what outputs are called that are no task's
# Of an output: how its answers are compared (`parity.compare`). A detector answers many queries with an image: class
# scores of each, [queries, classes + 1], the last for "no object", and boxes, [queries, 4]: center x, center y, width
# and height as shares of the image.
Kind = Literal["scores", "features", "query-scores", "boxes"]
TASK_NAME = r"^[a-z][a-z0-9_]{0,39}$"  # phone formats take it for an output as it is
# What names something else in the metadata of a phone file, or among reference vectors.
RESERVED_NAMES = (
    *("logits", "features", "boxes", "image", "images", "probabilities", "label", "labels", "classes"),
    *("cases", "model", "task", "resizing", "license", "main"),
)


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value read from untrusted files: typed, immutable, and refusing any field that it does not know."""


class ModelConfig(Strict, frozen=True, kw_only=True):
    """Everything that defines one network of a family; what a pruned network changes.

    A family of detectors has the field `num_queries`, the number of boxes that it answers with, beside `num_classes`,
    which does not count "no object".
    """

    # What becomes of the windows of trained weights at another image size, as the family's own code has it.
    windows_when_resized: ClassVar[Windows] = "scale"

    num_classes: int = 1000
    in_channels: int = 3

    def check_image_size(self, height: int, width: int) -> None:
        """Raise ValueError for images, in pixels, that the network cannot take with the windows that it has."""
        if min(height, width) < self.stride:
            raise ValueError(f"images of {height}x{width} are smaller than the network's total stride of {self.stride}")

    def at_image_size(self, height: int, width: int) -> ModelConfig:
        """The config for images of another size, in pixels. Raises ValueError for a size that the network cannot take.

        Here: the config itself, for networks whose weights fit every size. Families with windows scale those.
        """
        ModelConfig.check_image_size(self, height, width)
        return self

    def explicit(self) -> ModelConfig:
        """The same network with every width written out, so that pruning can change each (`channel_groups`).

        Here: the config itself, for families that cannot be pruned.
        """
        return self

    @property
    def stride(self) -> int:
        """The side in pixels of what becomes one position of the last feature map: the smallest image."""
        raise NotImplementedError


class Preprocessing(Strict, frozen=True, kw_only=True):
    """From a decoded RGB image to the tensor that the reference model takes.

    Resize, crop the center to `image_size` (height, width), scale to [0, 1], order the channels, then (x - mean) / std,
    with mean and std given in `channel_order`. Phone graphs include everything from the channel order on. `resize_mode`
    "shorter" brings the shorter side to `resize_size` and keeps the proportions; "squash" brings both sides to
    `image_size` and crops nothing.
    """

    image_size: tuple[int, int]
    resize_size: int
    resize_mode: Literal["shorter", "squash"] = "shorter"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    channel_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if min(*self.image_size, self.resize_size) < 1:
            raise ValueError(f"image and resize sizes must be positive, not {self.image_size} and {self.resize_size}")
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ValueError(f"mean and std must be finite, not {self.mean} and {self.std}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")

    def describe(self) -> str:
        """One line for people."""
        height, width = self.image_size
        resize = {
            "shorter": f"shorter side to {self.resize_size} ({self.interpolation}), center {height}x{width}",
            "squash": f"squashed to {height}x{width} ({self.interpolation})",
        }
        steps = [resize[self.resize_mode], self.channel_order.upper()]
        if any(self.mean) or self.std != (1.0, 1.0, 1.0):
            steps.append(f"mean {list(self.mean)}, std {list(self.std)}")
        return ", ".join(steps)

    def at_size(self, height: int, width: int) -> Preprocessing:
        """The same preprocessing for an input of another size in pixels; the share that is cropped away stays."""
        resize_size = min(height, width) * self.resize_size // min(self.image_size)  # rounded as the releases do
        return msgspec.structs.replace(self, image_size=(height, width), resize_size=resize_size)


class ModelInfo(Strict, frozen=True, kw_only=True):
    """What is publicly known of a registered model; not needed to run it."""

    paper: str
    top1: float | None = None  # percent, ImageNet-1k validation
    box_ap: float | None = None  # of a detector: percent, COCO val5k, over IoU of 0.5 to 0.95
    top1_source: str  # of either
    license: str
    preprocessing: Preprocessing


class Output(Strict, frozen=True):
    """One of a network's answers to an image, by the name that it has in phone files and reference vectors."""

    name: str
    kind: Kind
    classes: int | None = None  # of scores; of a query's, the last is "no object"
    labels: tuple[str, ...] | None = None  # of the classes but "no object"
    queries: int | None = None  # of a detector

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of the answer to one image; None where the spec does not tell."""
        if self.kind == "boxes":
            return self.queries or 0, 4
        if self.kind == "query-scores":
            return self.queries or 0, self.classes or 0
        return (self.classes or 0,) if self.kind == "scores" else None

    @property
    def meaning(self) -> str:
        """In words, for the metadata of phone files."""
        return {
            "scores": "class scores before softmax, the highest for the likeliest class",
            "features": "features of the image, in no order that means anything",
            "query-scores": "class scores of each box before softmax, the last of them for no object",
            "boxes": "center x, center y, width and height of each box as shares of the image, from 0 to 1",
        }[self.kind]

    def __str__(self) -> str:
        """In words, what it holds."""
        if self.kind == "query-scores":
            return f"{self.queries} x {self.classes} scores"
        if self.kind == "boxes":
            return f"{self.queries} boxes"
        return f"{self.classes} classes" if self.kind == "scores" else "features"

    @property
    def labels_name(self) -> str:
        """What phone files call the labels: "labels" of the network's own scores, "labels_pets" of a task's."""
        return "labels" if self.name == LOGITS else f"labels_{self.name}"

    @property
    def label_lines(self) -> list[str]:
        """The labels without breaks of lines; none where there are none."""
        return [" ".join(label.split()) for label in self.labels or ()]


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
    labels: tuple[str, ...] | None = None
    license: str | None = msgspec.field(default=None, name="licence")  # spelled so in every file written so far
    provenance: dict[str, Any] = {}

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
