"""The graphs of a .tflite file by the image sizes that they are for, read from an untrusted file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilevit_converters.tflite.file.schema import SIGNATURE
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.entries import entry_names
from mobilevit_sdk.formats.runtime import Size
from mobilevit_sdk.spec import ModelSpec, in_pixels


@dataclass(frozen=True)
class GraphEntry:
    """A signature: its name, its place among the signatures, and that of its graph among the graphs."""

    name: str
    signature: int
    graph: int


def entries_of(path: Path, model: Any, spec: ModelSpec | None) -> dict[Size, GraphEntry]:
    """The graphs of `model`, the root table of a file, by image size; a file of one size is read by its first.

    Raises ArtifactError where the file has no graph for one of the sizes of its spec.
    """
    names = entry_names(spec, SIGNATURE)
    if len(names) == 1:
        return {size: GraphEntry(name, 0, 0) for size, name in names.items()}
    try:
        found = {}
        for index in range(min(model.SignatureDefsLength(), 64)):
            signature = model.SignatureDefs(index)
            found[signature.SignatureKey().decode()] = GraphEntry(
                signature.SignatureKey().decode(), index, signature.SubgraphIndex()
            )
        entries = {size: found[name] for size, name in names.items()}
        for size, entry in entries.items():
            if entry.graph >= model.SubgraphsLength():
                raise ValueError(f"the signature {entry.name} has no graph")
            graph = model.Subgraphs(entry.graph)
            shape = tuple(int(n) for n in graph.Tensors(graph.Inputs(0)).ShapeAsNumpy())
            if shape[1:3] != size:
                raise ValueError(f"the signature {entry.name} takes {list(shape)}")
    except Exception as error:  # the generated reader raises whatever damaged offsets lead to
        raise ArtifactError(f"{path} is damaged: it does not hold the entries of its spec ({error!r})") from error
    return entries


def entry_at(path: Path, entries: dict[Size, GraphEntry], image_size: Size) -> GraphEntry:
    """The entry for images of a size, by default the first. Raises ArtifactError for another size."""
    if image_size is None:
        return next(iter(entries.values()))
    if image_size not in entries:
        raise ArtifactError(f"{path} has no signature for images of {in_pixels(image_size)}")
    return entries[image_size]
