"""`mobilevit inspect` for checkpoints."""

from __future__ import annotations

from mobilevit_sdk.cli.common import out, print_json


def show(source: str, as_json: bool) -> None:
    """Print what a checkpoint holds."""
    import msgspec
    from rich.table import Table

    from mobilevit_sdk.checkpoints.inspection import inspect_checkpoint

    found = inspect_checkpoint(source)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    classes = "none: a backbone" if found.num_classes is None else f"{found.num_classes:,}"
    types = ", ".join(f"{kind} {count}" for kind, count in found.dtypes.items())
    labels = list(found.labels or ())
    for key, value in (
        ("file", found.path),
        ("model", f"{found.model} ({found.family})"),
        ("layout", found.layout),
        ("classes", classes),
        ("options", ", ".join(f"{name} {value}" for name, value in found.options.items()) or "the model's own"),
        ("parameters", f"{found.parameters:,}"),
        ("size", f"{found.bytes / 1e6:.2f} MB"),
        ("tensors", types),
        ("preprocessing", found.preprocessing.describe()),
        ("labels", ", ".join(labels[:12]) + (f", ... ({len(labels)})" if len(labels) > 12 else "") or "none"),
        ("license", found.license or "not stated"),
        ("sha256", found.sha256),
        *(("note", note) for note in found.notes),
    ):
        table.add_row(key, value)
    out.print(table, markup=False)
