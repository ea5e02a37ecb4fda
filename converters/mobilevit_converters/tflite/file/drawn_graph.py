"""The nodes of a .tflite file as Google's Model Explorer numbers them: operators by their place in the graph.

Source: `direct_flatbuffer_to_json_graph_convert.cc` of https://github.com/google-ai-edge/model-explorer, whose adapter
takes a graph's own name for its id, or else that of its signature.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mobilevit_converters.tflite.file.associated_files import read_spec
from mobilevit_converters.tflite.file.entries import entries_of, entry_at
from mobilevit_converters.tflite.file.flatbuffer import read_model
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.formats.graph_view import DrawnGraph
from mobilevit_sdk.formats.runtime import Size


def drawn_graph(path: Path, image_size: Size = None) -> DrawnGraph:
    """See `formats.graph_view.DrawnByModelExplorer`."""
    model = read_model(path)
    entry = entry_at(path, entries_of(path, model, read_spec(path, required=False)), image_size)
    try:
        graph = model.Subgraphs(entry.graph)
        names = [
            (graph.Tensors(int(tensor)).Name().decode(), str(index))
            for index in range(graph.OperatorsLength())
            for tensor in graph.Operators(index).OutputsAsNumpy()
        ]
        titles = [_title(model, index) for index in range(model.SubgraphsLength())]
    except Exception as error:  # the generated reader raises whatever damaged offsets lead to
        raise ArtifactError(f"{path} is damaged: its operators cannot be read ({error!r})") from error
    title, times = titles[entry.graph], Counter(name for name, _ in names)
    if titles.count(title) > 1:
        raise RequestError(
            f"{path} calls {titles.count(title)} graphs {title!r}: Model Explorer does not tell them apart"
        )
    return DrawnGraph(title, {name: node for name, node in names if times[name] == 1})


def _title(model: Any, index: int) -> str:
    if name := (model.Subgraphs(index).Name() or b"").decode():
        return str(name)
    for each in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(each)
        if signature.SubgraphIndex() == index and signature.SignatureKey():
            return str(signature.SignatureKey().decode())
    return f"subgraph_{index}" if index else "main"
