"""A checkpoint under the names of a public release, so that nobody is locked in: what is loaded can be written back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.hub import WEIGHTS
from mobilevit_sdk.checkpoints.key_maps import OWN, KeyMap, all_key_maps
from mobilevit_sdk.checkpoints.load import CheckpointLike, as_checkpoint
from mobilevit_sdk.checkpoints.release_config import release_config, reversed_channels
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.files import replacing
from mobilevit_sdk.models.registry import model_entries, model_spec
from mobilevit_sdk.spec import ModelSpec

SAFETENSORS, TORCH = (".safetensors",), (".pth", ".pt", ".bin")


@dataclass(frozen=True)
class Exported:
    """What was written. `load_with` is the line of Python that loads it; `notes` say what the files do not carry."""

    path: Path
    layout: str
    tensors: int
    load_with: str | None
    notes: tuple[str, ...]


def export_checkpoint(checkpoint: CheckpointLike, layout: str, path: str | Path) -> Exported:
    """Write the weights under the names, and in the order, of a release: "timm", "transformers", "cream", "ml-cvnets".

    `checkpoint` is one that was loaded, a file or `hf-hub:org/name`, or None for the one that ships with the package.
    The suffix of `path` decides on the format: `.safetensors`, or `.pth`, `.pt`, `.bin` for torch.save. Without one,
    it is a folder that timm (`local-dir:`) or transformers load by its name: weights, config.json and, for the latter,
    preprocessor_config.json; weights for BGR become those for RGB. What is there is replaced as a whole or not at all,
    and a folder with other files is refused. A release's checkpoint that is loaded and exported into the same layout
    again holds the same values, bit for bit, as long as they were float32. Raises RequestError for a layout that the
    family does not have, another suffix, and a place that cannot be written.
    """
    path, checkpoint = Path(path), as_checkpoint(checkpoint)
    as_folder = not path.suffix
    if not as_folder and path.suffix not in SAFETENSORS + TORCH:
        raise RequestError(f"{path} must end in {', '.join(SAFETENSORS + TORCH)}: the suffix decides on the format")
    if "widths" in checkpoint.spec.config:
        raise RequestError(f"{checkpoint.source} is pruned: no {layout} network has its widths")
    if "representation_dim" in checkpoint.spec.config:
        raise RequestError(
            f"{checkpoint.source} has pre-logits, which no {layout} network has: timm since 0.8 drops them silently"
        )
    target = _find(layout, checkpoint.spec.family)
    weights = release_weights(checkpoint.model, checkpoint.spec, target)
    if as_folder:
        return _write_folder(path, checkpoint.spec, target, weights)
    with replacing(path) as fresh:
        if path.suffix in SAFETENSORS:
            fresh.write_bytes(safetensors.torch.save(weights, {"format": "pt"}))  # transformers insists on this mark
        else:
            torch.save({target.container: weights} if target.container else weights, fresh)
    notes = list(_notes(checkpoint.spec, target))
    return Exported(path, layout, len(weights), _timm_line(checkpoint.spec, target, path), tuple(notes))


def _write_folder(path: Path, spec: ModelSpec, layout: KeyMap, weights: dict[str, Tensor]) -> Exported:
    notes: tuple[str, ...] = ()
    if spec.preprocessing.channel_order != "rgb":
        weights, preprocessing = reversed_channels(weights, spec.preprocessing)
        spec = msgspec.structs.replace(spec, preprocessing=preprocessing)
        notes = ("the first convolution's channels are reversed: the files take RGB, and answer as before",)
    documents = release_config(spec, layout.release)
    others = {each.name for each in path.iterdir()} - {WEIGHTS[0], *documents} if path.is_dir() else set()
    if others or path.is_file():
        raise RequestError(f"{path} {f'holds {min(others)}, too' if others else 'is a file'}; give an empty folder")
    with replacing(path) as fresh:
        fresh.mkdir()
        (fresh / WEIGHTS[0]).write_bytes(safetensors.torch.save(weights, {"format": "pt"}))
        for name, document in documents.items():
            (fresh / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    line = f"timm.create_model({f'local-dir:{path}'!r}, pretrained=True)"
    if layout.release != "timm":
        line = f"transformers.pipeline('image-classification', {str(path)!r})"
    return Exported(path / WEIGHTS[0], layout.release, len(weights), line, notes)


def _find(layout: str, family: str) -> KeyMap:
    layouts = {each.release: each for each in all_key_maps() if each.family == family and each.release != OWN}
    if layout not in layouts:
        raise RequestError(f"{family} has no layout {layout!r}; {suggest(layout, layouts)}")
    return layouts[layout]


def release_weights(model: nn.Module, spec: ModelSpec, layout: KeyMap) -> dict[str, Tensor]:
    """The tensors of the network as the release stores them: names, rows, parts, and their order."""
    config: Any = getattr(model, "config", None)
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    rows = layout.tensor_rows(config, state)
    released: dict[str, Tensor] = {}
    for name, theirs in layout.sources(config, state).items():
        tensor = state[name]
        if name in rows:
            tensor = tensor[rows[name].argsort()]  # ours == theirs[rows]
        prefix = "" if name.startswith(f"{layout.classifier}.") else layout.prefix
        parts = tensor.chunk(len(theirs)) if len(theirs) > 1 else (tensor,)
        released |= {prefix + each: part.clone() for each, part in zip(theirs, parts, strict=True)}
    if layout.stores_derived:
        buffers = dict(model.named_buffers())
        released |= {layout.prefix + theirs: buffers[ours] for theirs, ours in layout.derived(config).items()}
    return {name: released[name] for name in _state_dict_order(released)}


def _state_dict_order(names: Iterable[str]) -> list[str]:
    """The names in the order of `state_dict`: a module's own tensors first, then its children as they first occur."""
    own: list[str] = []
    children: dict[str, list[str]] = {}
    for name in names:
        child, dot, rest = name.partition(".")
        if dot:
            children.setdefault(child, []).append(rest)
        else:
            own.append(name)
    return own + [f"{child}.{rest}" for child, inner in children.items() for rest in _state_dict_order(inner)]


def _notes(spec: ModelSpec, layout: KeyMap) -> Iterator[str]:
    """What a user of the file must know that its names and tensors do not say."""
    registered = model_spec(spec.model, num_classes=spec.num_classes) if _is_registered(spec) else None
    if registered is None:
        yield f"{spec.model} is not a model of this SDK: {layout.release} may have none with these widths"
    elif spec.config != registered.config:
        changed = [f"{name} {value}" for name, value in spec.config.items() if value != registered.config[name]]
        yield f"tell {layout.release} what differs from {spec.model}: {', '.join(changed)}"
    if registered is not None and layout.preprocessing is not None:
        registered = msgspec.structs.replace(registered, preprocessing=layout.preprocessing(registered))
    usual = registered.preprocessing if registered is not None else None
    if spec.preprocessing != usual:
        yield f"prepare images as for this checkpoint: {spec.preprocessing.describe()}" + (
            f" ({layout.release} would: {usual.describe()})" if usual else ""
        )


def _is_registered(spec: ModelSpec) -> bool:
    return spec.model in {entry.name for entry in model_entries(spec.family)}


def _timm_line(spec: ModelSpec, layout: KeyMap, path: Path) -> str | None:
    """What loads the file in timm; None where that takes more than a line, or the file is for another library."""
    if layout.release != "timm" or not _is_registered(spec):
        return None
    if spec.config != model_spec(spec.model, num_classes=spec.num_classes).config:
        return None
    # timm pools what it returns without a classifier; its map is what `forward_features` returns.
    num_classes = spec.num_classes if spec.returns_scores else 0
    return f"timm.create_model({spec.model!r}, num_classes={num_classes}, checkpoint_path={str(path)!r})"
