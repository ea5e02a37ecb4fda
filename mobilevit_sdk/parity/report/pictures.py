"""Thumbnails of all cases that a page shows, as one image: each is stored once, for however many artifacts."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from PIL import Image

from mobilevit_sdk.data.cases import Case

SIDE = 56  # pixels of a thumbnail
_COLUMNS = 8


@dataclass
class Pictures:
    """Collects cases; `style` places one in the image that `url` then holds."""

    _places: dict[tuple[bytes, tuple[int, ...]], int] = field(default_factory=dict)
    _images: list[np.ndarray] = field(default_factory=list)

    def style(self, case: Case) -> Markup:
        """The CSS that shows the case in a box of SIDE pixels."""
        key = case.image.tobytes(), case.image.shape
        if key not in self._places:
            self._places[key] = len(self._images)
            self._images.append(case.image)
        row, column = divmod(self._places[key], _COLUMNS)
        return Markup(f"background-position:-{column * SIDE}px -{row * SIDE}px")

    def url(self) -> Markup:
        """The collected thumbnails as a data URL."""
        rows = -(-len(self._images) // _COLUMNS) or 1
        sheet = Image.new("RGB", (_COLUMNS * SIDE, rows * SIDE))
        for place, pixels in enumerate(self._images):
            image = Image.fromarray(pixels.transpose(1, 2, 0))
            scale = SIDE / min(image.size)
            method = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
            image = image.resize(
                (max(SIDE, round(image.width * scale)), max(SIDE, round(image.height * scale))), method
            )
            left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
            image = image.crop((left, top, left + SIDE, top + SIDE))
            sheet.paste(image, (place % _COLUMNS * SIDE, place // _COLUMNS * SIDE))
        buffer = io.BytesIO()
        sheet.save(buffer, "WEBP", quality=80)
        return Markup("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode())
