"""`mobilevit list`: the registered models."""

from __future__ import annotations

from typing import Any

import click

from mobilevit_sdk.cli.common import log, out, print_json, verb


@verb("list")
@click.option("--family", help="Only the models of this family.")
def command(family: str | None, as_json: bool) -> None:
    """Show the models that can be created by name: size, cost, public accuracy and its source, license of the weights.

    MACs are multiply-accumulates of one image at the stated size, products of attention included.
    """
    from rich.table import Table

    from mobilevit_sdk.models.registry import list_models

    with log.status("counting multiply-accumulates"):
        rows = [_row(entry) for entry in list_models(family)]
    if as_json:
        print_json({"models": rows})
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for column in ("parameters", "GMACs", "input", "ImageNet top-1"):
        table.add_column(column, justify="right")
    table.add_column("license of public weights")
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before["family"] != row["family"]:
            table.add_row()
        table.add_row(
            row["model"],
            f"{row['parameters']:,}",
            f"{row['macs'] / 1e9:.3f}",
            "x".join(map(str, row["image_size"])),
            f"{row['imagenet_top1']:.1f}%",
            row["license"],
        )
    out.print(table)
    out.print()
    for source in dict.fromkeys(f"{row['family']}: {row['top1_source']}; {row['paper']}" for row in rows):
        out.print(source, style="dim")


def _row(entry: Any) -> dict[str, Any]:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mobilevit_sdk.models.meta_model import build_on_meta
    from mobilevit_sdk.models.registry import model_spec

    model = build_on_meta(model_spec(entry.name)).eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.empty(1, 3, *entry.info.preprocessing.image_size, device="meta"))
    return {
        "model": entry.name,
        "family": entry.family,
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": counter.get_total_flops() // 2,
        "image_size": list(entry.info.preprocessing.image_size),
        "imagenet_top1": entry.info.top1,
        "top1_source": entry.info.top1_source,
        "paper": entry.info.paper,
        "license": entry.info.license,
    }
