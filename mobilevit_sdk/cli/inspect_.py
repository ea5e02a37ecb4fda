"""`mobilevit inspect`: what a checkpoint or a converted file holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilevit_sdk.cli.common import out, print_json, verb
from mobilevit_sdk.cli.preparation import preparation_options
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.text import count

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.inspection import CheckpointInspection
    from mobilevit_sdk.checkpoints.preparation import Preparation
    from mobilevit_sdk.checkpoints.task_file import TaskInspection
    from mobilevit_sdk.formats.entries import Entry
    from mobilevit_sdk.formats.extras import Extra
    from mobilevit_sdk.spec import MemoryTask


@verb("inspect", "What a checkpoint or a phone file holds.")
@click.argument("target", metavar="CHECKPOINT_OR_ARTIFACT")
@preparation_options()
def command(target: str, preparation: Preparation, as_json: bool) -> None:
    """Show what a file holds, read from the file itself.

    Of a checkpoint (a file, or hf-hub:org/name): model, release, classes, options, types on disk, preprocessing,
    labels, license, and in notes all that a load does not take as it stands. JSON keys: "kind" ("checkpoint"), "path",
    "model", "family", "layout", "num_classes" (null for a backbone), "features", "parameters", "options", "bytes",
    "sha256", "dtypes", "image_size", "preprocessing", "preprocessing_source", "labels", "license", "notes". Options
    show what other commands make of it with the same ones. A task (`mobilevit train --base`) has the JSON keys "kind"
    ("task"), "path", "header" (the task, and the network that it stands on), "parameters", "bytes", "sha256".

    Of an artifact (a converted file, or its folder): operators, ranks, delegates, labels, preprocessing, and what an
    app feeds it (JSON key "app_input"). Of a .tflite also how many operators have a form that GPUs of phones are
    reported to refuse or to get wrong (JSON key "hazards"), and its TFLite Metadata (JSON key "metadata"). JSON key
    "tasks": those that it answers beside its own classes. Of a file with several input sizes, a table of its entries
    (JSON key "entries"), one for each.
    """
    from mobilevit_sdk.formats.converter import converters

    path = Path(target)
    if path.is_dir() or path.suffix in {converter.suffix for converter in converters().values()}:
        from mobilevit_sdk.checkpoints.preparation import AS_STATED

        if preparation != AS_STATED:
            raise RequestError(
                f"{target} is an artifact: how its images are prepared is in it, and no option changes it"
            )
        _show_artifact(path, as_json)
    else:
        _show_checkpoint(target, preparation, as_json)


def _show_checkpoint(source: str, preparation: Preparation, as_json: bool) -> None:
    import msgspec

    from mobilevit_sdk.checkpoints.inspection import inspect_checkpoint
    from mobilevit_sdk.checkpoints.task_file import inspect_task
    from mobilevit_sdk.spec import describe_preprocessing

    if task := inspect_task(source):
        _show_task(task, as_json)
        return
    found = inspect_checkpoint(source, preparation)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    _print_rows(
        found.path,
        ("model", f"{found.model} ({found.family})"),
        ("layout", found.layout),
        ("classes", _classes(found)),
        ("options", _pairs(found.options.items()) or "the model's own"),
        ("parameters", f"{found.parameters:,}"),
        ("size", f"{found.bytes / 1e6:.2f} MB"),
        ("tensors", _pairs(found.dtypes.items())),
        ("preprocessing", describe_preprocessing(found.preprocessing, found.preprocessing_source)),
        ("labels", _shorten(found.labels)),
        ("license", found.license or "unknown"),
        ("sha256", found.sha256),
        *(("note", note) for note in found.notes),
    )


def _show_task(found: TaskInspection, as_json: bool) -> None:
    import msgspec

    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    header, task = found.header, found.header.task
    _print_rows(
        found.path,
        ("task", task.name),
        ("classes", f"{task.num_classes:,}"),
        ("memory", f"{task.cells} cells in each block" if task.cells else "none: a class token alone"),
        *((("extends", ", ".join(task.extends)),) if task.extends else ()),
        ("on", f"{header.base_model} ({header.base_source}), weights {header.base_sha256[:12]}..."),
        ("parameters", f"{found.parameters:,}"),
        ("size", f"{found.bytes / 1e3:.1f} kB"),
        ("preprocessing", header.preprocessing.describe()),
        ("labels", _shorten(task.labels)),
        ("license", header.license or "unknown"),
        ("sha256", found.sha256),
    )


def _classes(found: CheckpointInspection) -> str:
    if found.features and found.num_classes is None:
        return f"none: it returns features ({found.features})"
    if found.features:
        return f"{found.num_classes:,}, and features ({found.features})"
    return "none: a backbone" if found.num_classes is None else f"{found.num_classes:,}"


def _show_artifact(artifact: Path, as_json: bool) -> None:
    import msgspec

    from mobilevit_sdk.artifacts.artifact import MANIFEST, inspect_artifact, open_artifact
    from mobilevit_sdk.files import hash_and_size
    from mobilevit_sdk.formats.app_input import app_input_of
    from mobilevit_sdk.formats.converter import converter_of_file
    from mobilevit_sdk.formats.entries import manifest_entries

    file = open_artifact(artifact).path if (artifact / MANIFEST).is_file() else artifact
    inspection = inspect_artifact(file)
    spec = inspection.spec
    manifest = open_artifact(file.parent).manifest if (file.parent / MANIFEST).is_file() else None
    app_input = app_input_of(inspection.inputs, spec.preprocessing) if spec else None
    entries = manifest_entries(inspection, spec) if spec else ()
    document = {
        "kind": "artifact",
        "path": str(file),
        "format": converter_of_file(file).format,
        "precision": manifest.precision if manifest else None,
        "bytes": hash_and_size(file)[1],
        "model": spec.model if spec else None,
        **{key: value for key, value in msgspec.to_builtins(inspection).items() if key != "spec"},
        **({"entries": msgspec.to_builtins(entries)} if entries else {}),
        "app_input": msgspec.to_builtins(app_input),
        "preprocessing": msgspec.to_builtins(spec.preprocessing) if spec else None,
        "preprocessing_source": spec.preprocessing_source if spec else None,
        "labels": list(spec.labels) if spec and spec.labels else None,
        "tasks": msgspec.to_builtins(spec.tasks) if spec and spec.tasks else [],
        "extras": msgspec.to_builtins(manifest.extras or ()) if manifest else [],
    }
    if as_json:
        print_json(document)
        return
    on_device = "decided on the device"
    calls = on_device if inspection.delegates is None else str(inspection.delegates)
    outside = inspection.undelegated_ops
    _print_rows(
        str(file),
        ("format", " ".join(filter(None, (document["format"], document["precision"])))),
        ("size", f"{document['bytes'] / 1e6:.2f} MB"),
        ("model", document["model"] or "not stated in the file"),
        ("inputs", _tensors(document["inputs"])),
        ("outputs", _tensors(document["outputs"])),
        ("operators", _pairs(sorted(inspection.operators.items(), key=lambda item: (-item[1], item[0])))),
        ("highest rank", str(inspection.max_rank)),
        ("delegates", f"{calls} ({inspection.backend})" if inspection.backend else calls),
        ("outside", on_device if outside is None else _pairs(outside.items()) or "none"),
        *_hazards(inspection.hazards),
        *_metadata(inspection.metadata),
        ("oldest system", inspection.oldest_system or "not stated in the file"),
        ("an app feeds", app_input.describe() if app_input else "not stated in the file"),
        ("an app resizes", app_input.resizing.describe() if app_input else "not stated in the file"),
        ("preprocessing", spec.describe_preprocessing() if spec else "not stated in the file"),
        ("labels", _shorten(spec.labels if spec else None)),
        *(("task", _task(task)) for task in (spec.tasks if spec and spec.tasks else ())),
        *(("beside it", _extra(extra)) for extra in (manifest.extras or () if manifest else ())),
    )
    if entries:
        _print_entries(entries)


def _print_entries(entries: Sequence[Entry]) -> None:
    """One row for each input size."""
    from mobilevit_sdk.cli.tables import Table
    from mobilevit_sdk.spec import in_pixels

    table = Table("entry", "images", "operators", "delegates", "outside", "an app resizes", name="entry", prose=True)
    for entry in entries:
        outside = entry.undelegated_ops
        table.add_row(
            entry.name,
            in_pixels(entry.image_size),
            str(sum(entry.operators.values())),
            "-" if entry.delegates is None else str(entry.delegates),
            "-" if outside is None else str(sum(outside.values())),
            entry.app_input.resizing.describe() if entry.app_input else "not stated",
        )
    out.print()
    table.print(out)


def _task(task: MemoryTask) -> str:
    labels = f": {_shorten(task.labels)}" if task.labels else ""
    return f"{task.name}, {task.num_classes:,} classes, {count(task.cells, 'memory cell')} a block{labels}"


def _extra(extra: Extra) -> str:
    what = f"with test vectors, within {extra.atol:.3g}" if extra.atol else "for ExecuTorch's Inspector"
    return f"{extra.file}, {extra.bytes / 1e6:.2f} MB, {what}"


def _print_rows(file: str, *rows: tuple[str, str]) -> None:
    from rich.text import Text

    from mobilevit_sdk.cli.tables import print_pairs

    out.print(Text(file, "bold"), soft_wrap=True)  # whole, so that it can be copied
    print_pairs(out, rows)


def _tensors(rows: list[dict[str, Any]]) -> str:
    return ", ".join(f"{row['name']} {row['dtype']} {list(row['shape']) or ''}".rstrip() for row in rows)


def _pairs(items: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in items)


def _hazards(found: Mapping[str, int] | None) -> list[tuple[str, str]]:
    """A row for formats that have them."""
    if found is None:
        return []
    return [("GPU hazards", ", ".join(f"{count} x {form}" for form, count in found.items()) or "none known")]


def _metadata(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """A row for each tensor that TFLite Metadata describes."""
    rows = []
    for graph in (found or {}).get("subgraph_metadata", ())[:1]:
        for tensor in (*graph.get("input_tensor_metadata", ()), *graph.get("output_tensor_metadata", ())):
            options = [unit.get("options") for unit in tensor.get("process_units", ())]
            scales = [each["NormalizationOptions"] for each in options if isinstance(each, dict)]
            words = [
                *filter(None, (tensor.get("name"), tensor.get("description"))),
                *(f"fed as (pixel - {_numbers(scale.get('mean'))}) / {_numbers(scale.get('std'))}" for scale in scales),
                *(f"{file.get('type')} in {file.get('name')}" for file in tensor.get("associated_files", ())),
            ]
            rows.append(("metadata", "; ".join(words)))
    return rows


def _numbers(values: Sequence[float] | None) -> str:
    """Of one channel, or of each."""
    texts = [f"{value:g}" for value in values or ()]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _shorten(labels: Sequence[str] | None) -> str:
    if not labels:
        return "none"
    return ", ".join(labels[:12]) + (f", ... ({len(labels)})" if len(labels) > 12 else "")
