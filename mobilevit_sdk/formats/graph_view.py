"""How a viewer of graphs names what a file computes, so that numbers can be shown at the nodes that compute them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from mobilevit_sdk.formats.runtime import Size


@dataclass(frozen=True)
class DrawnGraph:
    """A graph as Google's Model Explorer draws it: its id there, and the id of the node that computes each value.

    Values have the names of the taps (`formats.taps.Tap.name`); one that shares its name with another is left out.
    """

    graph: str
    nodes: dict[str, str]


@runtime_checkable
class DrawnByModelExplorer(Protocol):
    """A converter whose files Model Explorer opens."""

    def drawn_graph(self, path: Path, image_size: Size = None) -> DrawnGraph:
        """The graph of a file; of one with several input sizes, that for images of `image_size`, in pixels.

        Raises ArtifactError where the file is not of this format.
        """
        ...
