"""Labels and model spec within a .tflite file: a zip archive behind the FlatBuffer.

TFLite's metadata tools keep associated files there, so Android Studio and any zip reader find `labels.txt`, one label
per line. `model.json` is the ModelSpec. Entries are stored and not compressed, as those tools expect.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import msgspec

from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.files import decode_json
from mobilevit_sdk.spec import ModelSpec, Output

SPEC = "model.json"
MAX_SPEC = 1 << 24  # bytes; a spec with 21,000 labels has half a million
DESCRIPTION = b"mobilevit-sdk"  # marks a model that has an archive, so that a file cut off behind the model is noticed


def append_associated_files(path: Path, spec: ModelSpec) -> None:
    """Append the archive to the model in `path`."""
    with zipfile.ZipFile(path, "a") as archive:
        for output in spec.outputs:
            if output.labels is not None:
                archive.writestr(zipfile.ZipInfo(labels_file(output)), "".join(f"{x}\n" for x in output.label_lines))
        archive.writestr(zipfile.ZipInfo(SPEC), msgspec.json.format(msgspec.json.encode(spec), indent=2))


def labels_file(output: Output) -> str:
    """What the archive calls the labels of an output."""
    return f"{output.labels_name}.txt"


def read_spec(path: Path, *, required: bool) -> ModelSpec | None:
    """The ModelSpec in the archive; None where it is missing and not `required`. Raises ArtifactError."""
    if not zipfile.is_zipfile(path):
        if required:
            raise ArtifactError(f"{path} is truncated: the archive with its labels is missing or incomplete")
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if SPEC not in archive.namelist():
                return None
            with archive.open(SPEC) as file:
                text = file.read(MAX_SPEC + 1)
    except Exception as error:  # zipfile raises a dozen types for damaged archives
        raise ArtifactError(f"{path} carries a damaged archive: {error}") from error
    if len(text) > MAX_SPEC:
        raise ArtifactError(f"{path} carries a {SPEC} of more than {MAX_SPEC >> 20} MiB")
    try:
        return decode_json(text, ModelSpec)
    except ValueError as error:
        raise ArtifactError(f"{path} carries a malformed {SPEC}: {error}") from error
