"""A bisection over the graph of its file: "custom node data", which Google's Model Explorer shows as colors.

https://github.com/google-ai-edge/model-explorer (wiki, "API Guide", custom node data): for each graph of the file, by
its id, the value of each node, by its id, and the colors of ranges of values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from mobilevit_sdk.artifacts.artifact import Artifact, ArtifactLike, find_artifact
from mobilevit_sdk.bisection.verdict import Bisection
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.formats.converter import converters
from mobilevit_sdk.formats.graph_view import DrawnByModelExplorer
from mobilevit_sdk.parity.metrics import CEILING_DB

# Up to so many dB above the threshold of the scores: background and text.
_COLORS = ((0, "#c92a2a", "#ffffff"), (10, "#f76707", "#000000"), (20, "#ffd43b", "#000000"))
_GOOD = ("#d3f9d8", "#000000")


def require_drawn(artifact: ArtifactLike) -> Artifact:
    """The artifact. Raises RequestError where Model Explorer does not open files of its format."""
    found = find_artifact(artifact)
    if not isinstance(found.converter, DrawnByModelExplorer):
        known = (each.suffix for each in converters().values() if isinstance(each, DrawnByModelExplorer))
        raise RequestError(f"Model Explorer opens no {found.path.suffix} file, only {', '.join(known)}")
    return found


def write_overlay(bisection: Bisection, artifact: ArtifactLike, path: Path) -> int:
    """Write the SQNR of each value, in dB, at the node that computes it; returns how many nodes have one.

    Values at the threshold of the scores and below are red, then orange, yellow and green. Raises RequestError for a
    format that Model Explorer does not open, and where the file cannot be written.
    """
    found = require_drawn(artifact)
    assert isinstance(found.converter, DrawnByModelExplorer)
    size = None if bisection.image_size is msgspec.UNSET else bisection.image_size
    drawn = found.converter.drawn_graph(found.path, size)
    values: dict[str, float] = {}
    for operator in bisection.operators:
        if (node := drawn.nodes.get(operator.tensor)) is not None:
            values[node] = min(round(operator.sqnr_db, 1), values.get(node, CEILING_DB))
    document = {drawn.graph: _node_data(bisection, values)}
    with replacing(path) as fresh:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    return len(values)


def _node_data(bisection: Bisection, values: dict[str, float]) -> dict[str, Any]:
    limits = [(bisection.threshold_db + more, *colors) for more, *colors in _COLORS]
    return {
        "name": f"SQNR in dB, {bisection.precision} on {bisection.runtime}",
        "results": {node: {"value": value} for node, value in values.items()},
        "thresholds": [
            {"value": limit, "bgColor": background, "textColor": text}
            for limit, background, text in (*limits, (CEILING_DB, *_GOOD))
        ],
    }
