"""A drawn picture with objects, and a small detector that knows this picture alone, for the pictures of the apps:

    python docs/pictures/seaside.py out/seaside

writes seaside.png and converts the detector to TFLite beside it, in half a minute of training and conversion.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from mobilevit_sdk import convert
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data.preprocessing import crop_image, to_model_input
from mobilevit_sdk.models.registry import model_spec, spec_at_size

LABELS = ("balloon", "boat", "lighthouse", "ball", "crab")
SIZE = (960, 720)
FINE = 3  # the drawing is so many times larger, then reduced: smooth edges
# The class and left, top, right, bottom in pixels.
OBJECTS = (
    ("balloon", (150, 70, 310, 290)),
    ("balloon", (430, 130, 510, 240)),
    ("boat", (330, 285, 500, 445)),
    ("lighthouse", (710, 110, 830, 490)),
    ("ball", (590, 560, 690, 660)),
    ("crab", (195, 560, 345, 645)),
)
STEPS = 400


def seaside() -> Image.Image:
    """The picture, RGB of SIZE."""
    image = Image.new("RGB", (SIZE[0] * FINE, SIZE[1] * FINE))
    draw = ImageDraw.Draw(image)
    for bottom, top, low, high in ((420, 0, "#bfe6f5", "#4d9fd8"), (720, 420, "#7fd0cc", "#1f6f9e")):
        for y in range(top * FINE, bottom * FINE):
            share = (y / FINE - top) / (bottom - top)
            draw.line((0, y, image.width, y), fill=_mix(high, low, share))
    pen = _Pen(draw)
    pen.ellipse((-120, 500, 1080, 1000), "#f1d9a4")
    pen.ellipse((-300, 540, 900, 1100), "#f6e3b8")
    for x, y in ((80, 470), (250, 500), (560, 450), (880, 470), (640, 490)):
        pen.line(((x, y), (x + 26, y - 6), (x + 52, y)), "#d8f1f4", 4)
    for x, y in ((40, 90), (560, 60), (840, 60)):
        for dx, radius in ((0, 22), (32, 32), (68, 24)):
            pen.ellipse((x + dx - radius, y - radius, x + dx + radius, y + radius), "#f4fafd")
    shapes = {"balloon": _balloon, "boat": _boat, "lighthouse": _lighthouse, "ball": _ball, "crab": _crab}
    for name, box in OBJECTS:
        shapes[name](pen, *box)
    return image.resize(SIZE, Image.Resampling.LANCZOS)


class _Pen:
    """Draws in pixels of the final picture."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def ellipse(self, box: tuple[float, ...], color: str) -> None:
        self._draw.ellipse([round(each * FINE) for each in box], fill=color)

    def slice(self, box: tuple[float, ...], start: float, end: float, color: str) -> None:
        self._draw.pieslice([round(each * FINE) for each in box], start, end, fill=color)

    def shape(self, points: tuple[tuple[float, float], ...], color: str) -> None:
        self._draw.polygon([(x * FINE, y * FINE) for x, y in points], fill=color)

    def line(self, points: tuple[tuple[float, float], ...], color: str, width: float) -> None:
        fine = [(x * FINE, y * FINE) for x, y in points]
        self._draw.line(fine, fill=color, width=round(width * FINE), joint="curve")


def _balloon(pen: _Pen, left: float, top: float, right: float, bottom: float) -> None:
    width, height = right - left, bottom - top
    middle, low = (left + right) / 2, top + 0.72 * height
    pen.line(((left + 0.2 * width, top + 0.6 * height), (middle - 0.1 * width, bottom - 0.1 * height)), "#6b4a33", 2)
    pen.line(((right - 0.2 * width, top + 0.6 * height), (middle + 0.1 * width, bottom - 0.1 * height)), "#6b4a33", 2)
    for inset, color in ((0, "#e4572e"), (0.16, "#f6c445"), (0.36, "#e4572e")):
        pen.ellipse((left + inset * width, top, right - inset * width, low), color)
    pen.shape(
        tuple((middle + x * width, top + y * height) for x, y in ((-0.11, 0.86), (0.11, 0.86), (0.08, 1), (-0.08, 1))),
        "#8a5a3b",
    )


def _boat(pen: _Pen, left: float, top: float, right: float, bottom: float) -> None:
    width, height = right - left, bottom - top
    at = [(left + x * width, top + y * height) for x, y in ((0.5, 0), (0.5, 0.74), (0, 0.78), (1, 0.78), (0.82, 1))]
    pen.line((at[0], at[1]), "#5a3d2b", 5)
    pen.shape(
        (at[0], (left + 0.12 * width, top + 0.68 * height), (left + 0.47 * width, top + 0.68 * height)), "#fffaf0"
    )
    pen.shape(
        ((left + 0.54 * width, top + 0.12 * height), (left + 0.86 * width, top + 0.68 * height), at[1]), "#f29e4c"
    )
    pen.shape((at[2], at[3], at[4], (left + 0.18 * width, bottom)), "#9c2f2f")


def _lighthouse(pen: _Pen, left: float, top: float, right: float, bottom: float) -> None:
    width, height = right - left, bottom - top
    pen.ellipse((left, bottom - 0.14 * height, right, bottom), "#6d6a75")
    for part in range(6):
        a, b = 0.2 + 0.12 * part, 0.2 + 0.12 * (part + 1)
        near, far = 0.24 - 0.02 * part, 0.24 - 0.02 * (part + 1)
        corners = ((near, a), (1 - near, a), (1 - far, b), (far, b))
        pen.shape(tuple((left + x * width, top + y * height) for x, y in corners), "#d7263d" if part % 2 else "#fdfdfd")
    pen.shape(
        tuple((left + x * width, top + y * height) for x, y in ((0.3, 0.2), (0.7, 0.2), (0.7, 0.1), (0.3, 0.1))),
        "#ffe27a",
    )
    pen.shape(tuple((left + x * width, top + y * height) for x, y in ((0.22, 0.11), (0.78, 0.11), (0.5, 0))), "#3b3a4a")


def _ball(pen: _Pen, left: float, top: float, right: float, bottom: float) -> None:
    for start, color in zip(
        range(0, 360, 60), ("#ef476f", "#ffffff", "#118ab2", "#ffffff", "#ffd166", "#ffffff"), strict=True
    ):
        pen.slice((left, top, right, bottom), start + 15, start + 75, color)
    middle, center = (left + right) / 2, (top + bottom) / 2
    pen.ellipse((middle - 9, center - 9, middle + 9, center + 9), "#f8f8f8")


def _crab(pen: _Pen, left: float, top: float, right: float, bottom: float) -> None:
    width, height = right - left, bottom - top
    for side in (-1, 1):
        for x, y in ((0.18, 0.98), (0.27, 1.0), (0.36, 0.96)):
            start = (left + (0.5 + side * 0.15) * width, top + 0.7 * height)
            pen.line((start, (left + (0.5 + side * x) * width, top + y * height - 3)), "#b23a1e", 7)
        arm = (
            (left + (0.5 + side * 0.25) * width, top + 0.55 * height),
            (left + (0.5 + side * 0.4) * width, top + 0.3 * height),
        )
        pen.line(arm, "#b23a1e", 9)
        x = left + (0.5 + side * 0.41) * width
        box = (x - 0.09 * width, top, x + 0.09 * width, top + 0.36 * height)
        pen.slice(box, -60, 240, "#e2562f")
        x = left + (0.5 + side * 0.1) * width
        pen.line(((x, top + 0.5 * height), (x, top + 0.28 * height)), "#b23a1e", 4)
        pen.ellipse((x - 6, top + 0.2 * height, x + 6, top + 0.2 * height + 12), "#20202a")
    pen.ellipse((left + 0.2 * width, top + 0.38 * height, right - 0.2 * width, top + 0.94 * height), "#e2562f")


def _mix(first: str, second: str, share: float) -> tuple[int, ...]:
    pairs = [(int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5)]
    return tuple(round(a + share * (b - a)) for a, b in pairs)


def detector(picture: Image.Image) -> Checkpoint:
    """A small DETR whose first queries each learn one object of the picture, and the others that there is none."""
    torch.manual_seed(0)
    size = {"dim": 64, "num_heads": 4, "mlp_dim": 128, "encoder_layers": 1, "decoder_layers": 2}
    size |= {"num_queries": 12, "num_classes": len(LABELS), "backbone_width": 8, "backbone_depths": (1, 1, 1, 1)}
    spec = spec_at_size(model_spec("detr_resnet50", **size), 192, 256)
    made = random_checkpoint(msgspec.structs.replace(spec, labels=LABELS), 0)
    image = to_model_input(torch.from_numpy(crop_image(picture, spec.preprocessing))[None], spec.preprocessing)
    classes = torch.full((12,), len(LABELS))
    classes[: len(OBJECTS)] = torch.tensor([LABELS.index(name) for name, _ in OBJECTS])
    corners = torch.tensor([box for _, box in OBJECTS]) / torch.tensor(SIZE * 2)
    boxes = torch.cat(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), dim=1)
    optimizer = torch.optim.AdamW(made.model.parameters(), lr=1e-3)
    for step in range(STEPS):
        logits, found = made.model(image)
        loss = F.cross_entropy(logits[0], classes, label_smoothing=0.02) + 5 * F.l1_loss(found[0, : len(boxes)], boxes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / STEPS)
    made.model.eval()
    print(f"loss {loss.item():.3f}; boxes are off by {(found[0, : len(boxes)] - boxes).abs().max().item():.3f} at most")
    return made


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    picture = seaside()
    picture.save(out / "seaside.png")
    convert(detector(picture), out=out, formats="tflite", precisions="fp32")


if __name__ == "__main__":
    main()
