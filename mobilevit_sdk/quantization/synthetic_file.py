"""Synthesized images as a Parquet file, made batch by batch: an interrupted synthesis resumes where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import torch
from PIL import Image, ImageDraw

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, network_sha256
from mobilevit_sdk.checkpoints.load import CheckpointLike, as_checkpoint
from mobilevit_sdk.data import crop_image, open_dataset, to_model_input
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import decode_json, replacing
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.quantization.synthesis import SynthesisOptions, batch_count, synthesize_batch
from mobilevit_sdk.spec import ModelSpec, Preprocessing, Strict

_KEY = b"mobilevit_sdk.synthesis"
_SHEET_ROWS, _SHEET_COLUMNS = 8, 10
_SHEET_CELL, _SHEET_LINE = 128, 14  # pixels: the side of an image, and the height of the line below it


class Synthesis(Strict, frozen=True):
    """The record in a file of synthesized images: the network and the options that made them."""

    model: str
    network_sha256: str
    options: SynthesisOptions
    labels: tuple[str, ...] | None = None


def synthesize(
    checkpoint: CheckpointLike,
    out: Path | str,
    options: SynthesisOptions | None = None,
    *,
    progress: Progress = silent,
) -> Synthesis:
    """Synthesize images that fit the statistics in the BatchNorms of `checkpoint` (DeepInversion, arXiv 1912.08795).

    They calibrate a quantization where there are no real images. `checkpoint` is one that was loaded, a file or
    `hf-hub:org/name`, or None for the one that ships with the package. `out` is a Parquet file for `open_dataset`,
    labeled with the classes that the images were made for; a contact sheet has the same name with the suffix .png.
    RGB uint8 [3, H, W] of the model's input size: `crop_image` with the checkpoint's preprocessing returns exactly the
    pixels that were optimized. Finished batches are kept beside `out` until all are, so that the same call resumes
    after an interruption and ends with the same images; a file that was made by the same call is left alone. `progress`
    counts the steps of all batches. Raises RequestError when `out` holds anything else or does not end in .parquet.
    """
    out, checkpoint = Path(out), as_checkpoint(checkpoint)
    if out.suffix != ".parquet":
        raise RequestError(f"{out}: synthesized images are written to a file whose name ends in .parquet")
    checkpoint.spec.require_scores("the synthesis of images", alone=True)
    options = options or SynthesisOptions()
    spec = checkpoint.spec
    synthesis = Synthesis(
        model=spec.model,
        network_sha256=network_sha256(checkpoint.model, spec),
        options=options,
        labels=spec.labels,
    )
    if out.exists() and (found := read_synthesis(out)) is None:
        raise RequestError(f"{out} exists and holds no synthesized images; give another `out`")
    if not out.exists() or found != synthesis:
        digest = hashlib.sha256(msgspec.json.encode(synthesis)).hexdigest()
        parts = out.with_name(f".{out.name}.{digest[:16]}.parts")
        _make_parts(checkpoint, parts, options, progress)
        with replacing(out) as fresh:
            _write_parquet(fresh, parts, spec, synthesis)
    with replacing(out.with_suffix(".png")) as fresh:
        _contact_sheet(out, spec).save(fresh, "PNG")
    for parts in out.parent.glob(f".{out.name}.*.parts"):
        shutil.rmtree(parts, ignore_errors=True)
    return synthesis


def read_synthesis(path: Path) -> Synthesis | None:
    """The record in a file of synthesized images, or None for any other file."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        return decode_json(metadata[_KEY], Synthesis)
    except (pyarrow.ArrowException, OSError, KeyError, ValueError):
        return None


@torch.no_grad()
def recognized(checkpoint: Checkpoint, path: Path) -> float:
    """The share of the images that the network assigns to the class they were made for."""
    data = open_dataset(path, labeled=True)
    hits = 0
    for row, label in enumerate(data.labels or []):
        pixels = torch.from_numpy(crop_image(data.image(row), checkpoint.spec.preprocessing))
        x = to_model_input(pixels[None], checkpoint.spec.preprocessing)
        hits += int(checkpoint.model(x).argmax()) == label
    return hits / len(data)


def _make_parts(
    checkpoint: Checkpoint,
    parts: Path,
    options: SynthesisOptions,
    progress: Progress,
) -> None:
    """Make every batch that is not yet in the folder `parts`, a file of arrays each."""
    batches, started, steps_here = batch_count(options), time.monotonic(), 0
    todo = [index for index in range(batches) if not _part(parts, index).exists()]
    for position, index in enumerate(todo):
        done = batches - len(todo) + position

        def tell(step: int, loss: float, done: int = done) -> None:
            nonlocal steps_here
            steps_here += 1
            steps_left = (batches - done) * options.steps - step
            left = timedelta(seconds=round(steps_left * (time.monotonic() - started) / steps_here))
            images_done = options.images * done // batches
            detail = f"{images_done} of {options.images} images · {left} left · loss {loss:.2f}"
            steps_done = done * options.steps + step
            progress(Step("synthesizing images", steps_done, batches * options.steps, detail=detail))

        pixels, classes = synthesize_batch(checkpoint.model, checkpoint.spec, options, index, tell)
        with replacing(_part(parts, index)) as fresh, fresh.open("wb") as stream:
            np.savez(stream, pixels=pixels.numpy(), classes=classes.numpy())


def _part(parts: Path, index: int) -> Path:
    return parts / f"{index:05}.npz"


def _write_parquet(path: Path, parts: Path, spec: ModelSpec, synthesis: Synthesis) -> None:
    """As the `datasets` library does, one row group a batch."""
    import pyarrow
    import pyarrow.parquet

    label = {"names": spec.labels, "_type": "ClassLabel"} if spec.labels else {"dtype": "int64", "_type": "Value"}
    features = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema(
        [("image", image), ("label", pyarrow.int64())],
        metadata={b"huggingface": json.dumps(features).encode(), _KEY: msgspec.json.encode(synthesis)},
    )
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for index in range(batch_count(synthesis.options)):
            with np.load(_part(parts, index)) as part:
                encoded = [{"bytes": _encode(pixels, spec.preprocessing), "path": None} for pixels in part["pixels"]]
                rows = {"image": encoded, "label": part["classes"].tolist()}
            writer.write_table(pyarrow.table(rows, schema=schema))


def _encode(pixels: np.ndarray, preprocessing: Preprocessing) -> bytes:
    """uint8 [3, H, W] -> a PNG that resizing leaves as it is, with the border that cropping takes away."""
    picture = pixels.transpose(1, 2, 0)
    if preprocessing.resize_mode == "shorter":
        missing = [max(0, preprocessing.resize_size - side) for side in picture.shape[:2]]
        border = [(each // 2, each - each // 2) for each in missing]
        picture = np.pad(picture, (*border, (0, 0)), mode="reflect")
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _contact_sheet(path: Path, spec: ModelSpec) -> Image.Image:
    """At most 80 of the images, sorted by class, each with the name of its class."""
    data = open_dataset(path, labeled=True)
    assert data.labels is not None
    by_class = sorted(range(len(data)), key=data.labels.__getitem__)
    count = min(len(by_class), _SHEET_ROWS * _SHEET_COLUMNS)
    columns = min(count, _SHEET_COLUMNS)
    size = (columns * _SHEET_CELL, -(-count // columns) * (_SHEET_CELL + _SHEET_LINE))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for place in range(count):
        row = by_class[place * len(by_class) // count]
        left, top = place % columns * _SHEET_CELL, place // columns * (_SHEET_CELL + _SHEET_LINE)
        picture = Image.fromarray(crop_image(data.image(row), spec.preprocessing).transpose(1, 2, 0))
        sheet.paste(picture.resize((_SHEET_CELL - 2, _SHEET_CELL - 2), Image.Resampling.NEAREST), (left, top))
        label = data.labels[row]
        draw.text((left, top + _SHEET_CELL), spec.labels[label] if spec.labels else f"class {label}", "black")
    return sheet
