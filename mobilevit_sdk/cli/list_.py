"""`mobilevit list`: the registered models."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import out, print_json, verb

if TYPE_CHECKING:
    from mobilevit_sdk.models.catalog import CatalogEntry


@verb("list", "Models that can be created by name.")
@click.option("--family", help="Only the models of this family.")
def command(family: str | None, as_json: bool) -> None:
    """Show the models that can be created by name: size, cost, public accuracy and its source, license of the weights.

    MACs are multiply-accumulates of one image at the stated size, products of attention included.
    """
    import msgspec

    from mobilevit_sdk.cli.tables import Table
    from mobilevit_sdk.models.catalog import catalog

    models = catalog(family)
    if as_json:
        print_json({"models": msgspec.to_builtins(models)})
        return
    titles = ("model", "params", "GMACs", "input", "top-1", "license of weights")
    table = Table(*titles, name="model", left=titles[-1:], drops=("input", "GMACs", "license of weights"))
    for number, (_, members) in enumerate(groupby(models, lambda model: model.family)):
        if number:
            table.add_row()
        for model in members:
            table.add_row(
                model.model,
                f"{model.parameters / 1e6:.2f}M",
                f"{model.macs / 1e9:.3f}",
                "x".join(map(str, model.image_size)),
                _quality(model),
                model.license,
            )
    table.print(out)
    out.print("\ntop-1: ImageNet-1k validation accuracy of the public weights, as published", style="dim")
    if any(model.coco_box_ap is not None for model in models):
        out.print("AP: average precision of a detector's boxes on COCO val5k, as published", style="dim")
    for line in dict.fromkeys(f"{model.family}: {model.top1_source}; {model.paper}" for model in models):
        out.print(line, style="dim")


def _quality(model: CatalogEntry) -> str:
    """Top-1, or a detector's AP; nothing for a network without public weights."""
    if model.coco_box_ap is not None:
        return f"AP {model.coco_box_ap:.1f}"
    return "" if model.imagenet_top1 is None else f"{model.imagenet_top1:.1f}%"
