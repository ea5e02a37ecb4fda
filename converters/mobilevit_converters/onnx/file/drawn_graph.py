"""The nodes of a .onnx file as Model Explorer's adapter for ONNX calls them: by their own names.

Source: https://github.com/justinchuby/model-explorer-onnx, which numbers nodes without a name.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mobilevit_converters.onnx.file.model import read_model
from mobilevit_sdk.formats.graph_view import DrawnGraph


def drawn_graph(path: Path) -> DrawnGraph:
    """See `formats.graph_view.DrawnByModelExplorer`."""
    graph = read_model(path).graph
    names = [
        (node.name or value, node.name or f"<node_{index}>")
        for index, node in enumerate(graph.node)
        for value in node.output
    ]
    times = Counter(node.name for node in graph.node if node.name)
    return DrawnGraph(graph.name, {name: node for name, node in names if times[node] < 2})
