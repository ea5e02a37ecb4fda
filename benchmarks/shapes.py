"""Pictures of circles, squares and triangles with their boxes: detection that a CPU learns in minutes, without data.

    python benchmarks/shapes.py FILE.parquet [--count N] [--seed S]

writes a file in the layout of Hugging Face's `datasets`; the same seed gives the same pictures.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "triangle")
SIDE = 128  # pixels
MOST = 5  # shapes of a picture, at least one; of more, smaller ones
_SCALE = 4  # drawn so much larger, for smooth edges
_SIDES = (20, 52)  # of a shape among five, in pixels
_MOST_SHARED = 0.25  # of the smaller of two shapes
_BOX = {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4, "_type": "List"}
_FEATURES = {
    "image": {"_type": "Image"},
    "objects": {
        "bbox": {"feature": _BOX, "_type": "List"},
        "category": {"feature": {"names": list(CLASSES), "_type": "ClassLabel"}, "_type": "List"},
    },
}


def write_shapes(path: Path, count: int, seed: int, most: int = MOST) -> None:
    """A file of `count` pictures of 128x128 pixels with one to `most` shapes each, on textured noise."""
    random = np.random.default_rng(seed)
    rows = [draw_shapes(random, most) for _ in range(count)]
    table = pyarrow.table(
        {
            "image": [{"bytes": encoded, "path": f"{index}.png"} for index, (encoded, _, _) in enumerate(rows)],
            "objects": [{"bbox": boxes, "category": classes} for _, boxes, classes in rows],
        }
    )
    metadata = {"huggingface": json.dumps({"info": {"features": _FEATURES}})}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), path)


def draw_shapes(random: np.random.Generator, most: int = MOST) -> tuple[bytes, list[list[float]], list[int]]:
    """A picture as PNG, boxes as x, y, width and height in pixels, and indices into CLASSES."""
    coarse = random.integers(60, 196, (12, 12, 3), np.uint8)
    ground = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
    ground = np.clip(ground + random.integers(-24, 25, ground.shape), 0, 255).astype(np.uint8)
    picture = Image.fromarray(ground)
    boxes: list[list[float]] = []
    classes: list[int] = []
    for _ in range(int(random.integers(1, most + 1))):
        for _ in range(20):
            width = int(random.integers(*_SIDES) * (MOST / most) ** 0.5)
            box = [int(random.integers(0, SIDE - width)), int(random.integers(0, SIDE - width)), width, width]
            if all(_shared(box, other) <= _MOST_SHARED for other in boxes):
                break
        else:
            continue
        boxes.append([float(value) for value in box])
        classes.append(int(random.integers(len(CLASSES))))
        picture.paste(_color(random, ground, box), mask=_mask(box, classes[-1]))
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    return encoded.getvalue(), boxes, classes


def _color(random: np.random.Generator, ground: np.ndarray, box: list[int]) -> tuple[int, ...]:
    """One that stands out from the ground within the box."""
    x, y, width, height = box
    near = ground[y : y + height, x : x + width].mean((0, 1))
    while True:
        color = random.integers(0, 256, 3)
        if np.abs(color - near).sum() > 180:
            return tuple(color.tolist())


def _mask(box: list[int], label: int) -> Image.Image:
    x, y, width, height = (_SCALE * value for value in box)
    mask = Image.new("L", (_SCALE * SIDE, _SCALE * SIDE))
    draw = ImageDraw.Draw(mask)
    corners = (x, y, x + width - 1, y + height - 1)
    if CLASSES[label] == "circle":
        draw.ellipse(corners, fill=255)
    elif CLASSES[label] == "square":
        draw.rectangle(corners, fill=255)
    else:
        draw.polygon([(x, corners[3]), (corners[2], corners[3]), (x + width // 2, y)], fill=255)
    return mask.resize((SIDE, SIDE), Image.Resampling.BOX)


def _shared(one: list[int], other: list[float]) -> float:
    """Of the smaller of two boxes."""
    sides = [min(a + w, b + v) - max(a, b) for a, w, b, v in zip(one[:2], one[2:], other[:2], other[2:], strict=True)]
    return max(0, sides[0]) * max(0, sides[1]) / min(one[2] * one[3], other[2] * other[3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=MOST, help="shapes of a picture")
    options = parser.parse_args()
    write_shapes(options.file, options.count, options.seed, options.most)


if __name__ == "__main__":
    main()
