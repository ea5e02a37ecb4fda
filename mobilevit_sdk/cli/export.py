"""`mobilevit export`: a checkpoint under the names of a public release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import out, print_json, print_notes, verb
from mobilevit_sdk.cli.preparation import preparation_options

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.preparation import Preparation


@verb("export", "Write a checkpoint under a public release's names.")
@click.argument("checkpoint", required=False)
@click.option("--layout", default="timm", show_default=True, help="timm, transformers, cream or ml-cvnets.")
@click.option(
    "--out",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE_OR_DIR",
    help="Ends in .safetensors or .pth; a folder also has config.json, and is loaded by its name.",
)
@click.option("--model", help="The model of the checkpoint, instead of what its keys and shapes say.")
@preparation_options()
def command(
    checkpoint: str | None, layout: str, path: Path, model: str | None, preparation: Preparation, as_json: bool
) -> None:
    """Write a checkpoint under the names of a public release, for its own library.

    CHECKPOINT is a file or hf-hub:org/name; by default the one that ships with the package. A folder is what
    timm.create_model("local-dir:DIR") and transformers.pipeline("image-classification", "DIR") load, classes and
    preprocessing included. The JSON document holds "path" (of the weights), "layout", "model", "num_classes" (null for
    features), "tensors", "bytes", "sha256", "load_with" (a line of Python, or null) and "notes".
    """
    from mobilevit_sdk.checkpoints.export import export_checkpoint
    from mobilevit_sdk.checkpoints.source import open_source
    from mobilevit_sdk.files import hash_and_size

    source = open_source(checkpoint, model=model, preparation=preparation)
    written = export_checkpoint(source, layout, path)
    notes = (*source.notes, *written.notes)
    sha256, size = hash_and_size(written.path)
    print_notes(notes)
    if as_json:
        print_json(
            {
                "path": str(written.path),
                "layout": written.layout,
                "model": source.spec.model,
                "num_classes": source.spec.num_classes if source.spec.returns_scores else None,
                "tensors": written.tensors,
                "bytes": size,
                "sha256": sha256,
                "load_with": written.load_with,
                "notes": list(notes),
            }
        )
        return
    out.print(f"{written.path}: {source.spec.model} in the layout of {layout}, {written.tensors} tensors", markup=False)
    if written.load_with:
        out.print(written.load_with, markup=False, soft_wrap=True)
