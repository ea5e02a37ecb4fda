"""What `mobilevit list` says of the registered models, without importing torch and building each to count.

`catalog.json` holds it for the families of this package. `python -m mobilevit_sdk.models.catalog` writes it; a test
holds it against the networks themselves. What other packages register is counted when it is asked for.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mobilevit_sdk.spec import Strict

if TYPE_CHECKING:
    from mobilevit_sdk.models.registry import Entry

_FILE = Path(__file__).with_name("catalog.json")


class CatalogEntry(Strict, frozen=True, kw_only=True):
    """A registered model with its public weights' accuracy; `mobilevit list --json` prints these fields."""

    model: str
    family: str
    parameters: int
    macs: int  # multiply-accumulates on one image of `image_size`
    image_size: tuple[int, int]  # height, width
    imagenet_top1: float | None  # percent
    top1_source: str  # of either accuracy
    paper: str
    license: str  # of the public weights
    coco_box_ap: float | None = None  # of a detector: percent


def catalog(family: str | None = None) -> list[CatalogEntry]:
    """All registered models, or those of one family. Raises RequestError for an unknown family."""
    entries = msgspec.json.decode(_FILE.read_bytes(), type=list[CatalogEntry])
    ours = {entry.family for entry in entries}
    if family not in (None, *ours) or entry_points(group="mobilevit_sdk.models"):
        from mobilevit_sdk.models.registry import is_ours, model_entries

        entries += [describe(entry) for entry in model_entries(family) if not is_ours(entry.family)]
    return [entry for entry in entries if family in (None, entry.family)]


def describe(entry: Entry) -> CatalogEntry:
    """Build a registered model without weights, and count."""
    from mobilevit_sdk.models.meta_model import build_on_meta, count_macs
    from mobilevit_sdk.models.registry import model_spec

    spec = model_spec(entry.name)
    return CatalogEntry(
        model=entry.name,
        family=entry.family,
        parameters=sum(parameter.numel() for parameter in build_on_meta(spec).parameters()),
        macs=count_macs(spec),
        image_size=entry.info.preprocessing.image_size,
        imagenet_top1=entry.info.top1,
        coco_box_ap=entry.info.box_ap,
        top1_source=entry.info.top1_source,
        paper=entry.info.paper,
        license=entry.info.license,
    )


def main() -> None:
    """Write the file anew."""
    from mobilevit_sdk.models.registry import is_ours, model_entries

    entries = [describe(entry) for entry in model_entries() if is_ours(entry.family)]
    _FILE.write_bytes(msgspec.json.format(msgspec.json.encode(entries)) + b"\n")


if __name__ == "__main__":
    main()
