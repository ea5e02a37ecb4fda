"""Where a training starts: the spec that fits the data, and the network with its first weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.fill import fill
from mobilevit_sdk.checkpoints.identify import identify
from mobilevit_sdk.checkpoints.load import prepare, read_source
from mobilevit_sdk.checkpoints.preparation import AS_STATED, Preparation
from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.models.backbone import HasBackbone, as_rows
from mobilevit_sdk.models.registry import build_model, model_config, model_spec, spec_at_size
from mobilevit_sdk.models.resize import fit_network
from mobilevit_sdk.recipe import Distillation, Recipe
from mobilevit_sdk.spec import ModelSpec, Windows


def initial_checkpoint(source: str | Path, data: ImageDataset, preparation: Preparation = AS_STATED) -> Checkpoint:
    """The checkpoint that a training starts from; a backbone gets a fresh head for the classes of `data`."""
    file = read_source(source)
    match = identify(file, preparation=preparation)
    return prepare(fill(file, match, class_count(data) if match.is_backbone else None), preparation)


def class_count(data: ImageDataset) -> int:
    """How many classes labeled images have, by their names or else by their labels."""
    return len(data.class_names) if data.class_names else max(_present(data), default=0) + 1


def _present(data: ImageDataset) -> set[int]:
    """The classes of the images or of their objects."""
    if data.objects is not None:
        return {label for each in data.objects for label in each.classes.tolist()}
    return set(data.labels or ())


def spec_for_training(
    model: str,
    checkpoint: Checkpoint | None,
    data: ImageDataset,
    image_size: int | tuple[int, int] | None,
    windows: Windows | None = None,
    options: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """The spec of `checkpoint`, or of a registered model with `options` in its config, with the classes of `data`.

    `image_size` is in pixels, by default the model's own; of images that are no square, height and width. Images that
    are not larger than the input are enlarged to it exactly, so none of their border is cropped away. `windows` is what
    becomes of a checkpoint's at another size, by default what its family's own code does. The weights of a new training
    are its owner's to license.
    """
    if checkpoint is not None and not checkpoint.spec.num_queries:
        checkpoint.spec.require_scores("a training", alone=True)
    if checkpoint is None:
        spec = _from_nothing(model, options or {})
    else:
        origin = {"source": Path(checkpoint.source).name, "sha256": checkpoint.sha256, **checkpoint.spec.provenance}
        origin |= {"license": checkpoint.spec.license} if checkpoint.spec.license else {}
        spec = msgspec.structs.replace(checkpoint.spec, license=None, provenance={"initial_checkpoint": origin})
    names, count = data.class_names, class_count(data)
    known = spec.labels
    shown = {names[label] for label in _present(data)} if names else set()
    if known and (shown <= set(known) <= set(names) if names else count <= len(known)):
        names, count = known, len(known)  # the same classes: the head keeps its order
    size = (image_size, image_size) if isinstance(image_size, int) else image_size or spec.preprocessing.image_size
    if checkpoint is not None and size != spec.preprocessing.image_size:
        windows = windows or model_config(spec).windows_when_resized
    spec = spec_at_size(spec, *size, windows)
    preprocessing = spec.preprocessing
    if data.typical_side() <= min(preprocessing.image_size):
        preprocessing = msgspec.structs.replace(preprocessing, resize_size=min(preprocessing.image_size))
    return msgspec.structs.replace(
        spec,
        config={**spec.config, "num_classes": count},
        preprocessing=preprocessing,
        preprocessing_source=None,
        labels=names,
    )


def _from_nothing(model: str, options: Mapping[str, Any]) -> ModelSpec:
    """A registered model with `options` in its config, and norms that learn, not those of a pretrained backbone.

    Raises RequestError for options that it does not have or take.
    """
    spec = model_spec(model)
    frozen = {"frozen_norm": False} if "frozen_norm" in spec.config else {}
    if unknown := [name for name in options if name not in spec.config]:
        raise RequestError(f"{model} has no option {unknown[0]!r}; {suggest(unknown[0], spec.config)}")
    spec = msgspec.structs.replace(spec, config=spec.config | frozen | dict(options), license=None)
    try:
        model_config(spec)
    except ValueError as error:
        raise RequestError(f"{model} cannot be built so: {error}") from error
    return spec


def input_size(spec: ModelSpec, side: int) -> tuple[int, int]:
    """Height and width of an input whose longer side has `side` pixels, in the proportions of the spec's own.

    The shorter side is a whole number of strides where the spec's is one: networks of patches take no other.
    """
    longer, shorter = max(spec.preprocessing.image_size), min(spec.preprocessing.image_size)
    stride = model_config(spec).stride
    step = 1 if shorter == longer or shorter % stride else stride
    other = max(step, round(shorter * side / longer / step) * step)
    height, width = spec.preprocessing.image_size
    return (side, other) if height >= width else (other, side)


def checked_recipe(recipe: Recipe, spec: ModelSpec, train: ImageDataset, *, taught: bool) -> Recipe:
    """The recipe of a training with these images, with a teacher where it is `taught`.

    Raises RequestError for what does not go together.
    """
    if len(train) < 2:
        raise RequestError(f"{train.source} holds a single image; BatchNorm needs two to train")
    if not taught and recipe.distillation is not None:
        raise RequestError("the recipe distills from a teacher; give one as `teacher`")
    if spec.num_queries and (taught or recipe.quantization_aware is not None):
        what = "from a teacher" if taught else "in simulated integers"
        raise RequestError(f"{spec.model} answers with boxes, and a detector does not learn {what}: leave that out")
    if recipe.packing and (taught or recipe.quantization_aware is not None):
        what = "a teacher" if taught else "simulated integers"
        raise RequestError(f"packed images go with no {what}, which takes images of one size: leave one of them out")
    how = recipe.distillation or Distillation()
    return msgspec.structs.replace(recipe, distillation=how) if taught else recipe


def network_for_training(spec: ModelSpec, recipe: Recipe, checkpoint: Checkpoint | None) -> nn.Module:
    """The network of `spec` with the recipe's options, such as dropout, and its first weights.

    These come from the recipe's seed, or from `checkpoint`; a head for another number of classes starts anew. Raises
    RequestError when an option of the recipe changes what the trained network computes, and when the network does not
    take one of its sizes.
    """
    torch.manual_seed(recipe.seed)
    network = build_model(spec)
    if checkpoint is not None:
        fresh = network.state_dict()
        own_classes = {"num_classes": checkpoint.spec.num_classes}
        fitting = msgspec.structs.replace(spec, config=spec.config | own_classes, labels=None)
        trained = fit_network(checkpoint.model, checkpoint.spec, fitting).state_dict()
        network.load_state_dict(
            {name: trained[name] if trained[name].shape == fresh[name].shape else fresh[name] for name in fresh}
        )
    for size in recipe.sizes:
        try:
            network.eval()(torch.zeros(1, spec.config["in_channels"], *input_size(spec, size)))
        except ValueError as error:
            raise RequestError(f"the recipe's sizes do not fit {spec.model}: {error}") from error
    if not recipe.model:
        return _frozen(network, checkpoint)
    unknown = [name for name in recipe.model if name not in spec.config]
    if unknown:
        raise RequestError(f"the recipe sets {', '.join(unknown)}, which the config of {spec.model} lacks")
    trainable = build_model(msgspec.structs.replace(spec, config={**spec.config, **recipe.model}))
    height, width = spec.preprocessing.image_size
    probe = torch.linspace(0, 1, 3 * height * width).view(1, 3, height, width)
    try:
        trainable.load_state_dict(network.state_dict())
        same = torch.equal(*(as_rows(each.eval()(probe)) for each in (network, trainable)))
    except RuntimeError:  # other weights
        same = False
    if not same:
        raise RequestError(f"the recipe's model options ({', '.join(recipe.model)}) change what {spec.model} computes")
    return _frozen(trainable, checkpoint)


def _frozen(network: nn.Module, checkpoint: Checkpoint | None) -> nn.Module:
    """The same, with what stays as it was pretrained."""
    if checkpoint is not None and isinstance(network, HasBackbone):
        network.freeze_pretrained()
    return network
