"""Write tests/golden/preprocessing.safetensors: pictures, and the pixels that an app has to make of them.

    python tests/support/make_preprocessing_golden.py

With the versions in constraints.txt it writes the same bytes each time. tests/golden/README.md describes the file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy
from PIL import ExifTags, Image
from sklearn.datasets import load_sample_image

from mobilevit_sdk.data.pictures import decode_picture, to_rgb
from mobilevit_sdk.data.preprocessing import crop_image
from mobilevit_sdk.formats.app_input import Resizing, resizing_of
from mobilevit_sdk.spec import Preprocessing

GOLDEN = Path(__file__).parents[1] / "golden" / "preprocessing.safetensors"
JPEG = {"format": "JPEG", "quality": 88}
PNG = {"format": "PNG", "optimize": True}


@dataclass(frozen=True)
class GoldenCase:
    """A picture, how it is stored, and what an app is asked to make of it."""

    name: str
    picture: Image.Image
    save: dict
    preprocessing: Preprocessing
    orientation: int = 1

    @property
    def resizing(self) -> Resizing:
        return resizing_of(self.preprocessing)

    def file(self) -> bytes:
        """The picture's file, with the orientation in its EXIF data where that is not 1."""
        stream, options = io.BytesIO(), dict(self.save)
        if self.orientation != 1:
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = self.orientation
            options["exif"] = exif
        self.picture.save(stream, **options)
        return stream.getvalue()


def stored_pixels(file: bytes) -> np.ndarray:
    """A file's pixels as RGB uint8 [h, w, 3], before the EXIF turn; what is transparent lies over white."""
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        transparency = {key: image.info[key] for key in ("transparency",) if key in image.info}
        bare = image.copy()
    bare.info = transparency  # without EXIF, so that nothing turns it
    bare.getexif().clear()
    return np.asarray(to_rgb(bare))


def _photographs() -> tuple[Image.Image, Image.Image]:
    return tuple(Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))


def _asked(size, resize=0, filter="bilinear", squash=False) -> Preprocessing:
    mode = "squash" if squash else "shorter"
    return Preprocessing(image_size=size, resize_size=resize or size[0], interpolation=filter, resize_mode=mode)


def golden_cases() -> Iterator[GoldenCase]:
    """All cases, in the order of the file."""
    china, flower = _photographs()

    def cut(photo, width, height, left=160, top=60):
        return photo.crop((left, top, left + width, top + height))

    # Photographs of odd sizes: lying, standing, reduced a little and a lot, enlarged; both filters.
    landscape, portrait = cut(china, 173, 127), cut(flower, 101, 149)
    for filter in ("bilinear", "bicubic"):
        yield GoldenCase(f"landscape-{filter}", landscape, JPEG, _asked((64, 64), 72, filter))
        yield GoldenCase(f"portrait-{filter}", portrait, JPEG, _asked((64, 64), 73, filter))
        yield GoldenCase(f"enlarged-{filter}", cut(flower, 37, 29, 250, 150), PNG, _asked((64, 64), 71, filter))
    yield GoldenCase("reduced-13-times", cut(china, 269, 227, 300, 150), JPEG, _asked((17, 17), 17, "bicubic"))
    yield GoldenCase(
        "progressive-444",
        cut(china, 83, 67),
        JPEG | {"progressive": True, "subsampling": 0},
        _asked((48, 48), 55, "bicubic"),
    )

    # All turns of EXIF, in JPEG and once in PNG; with a crop that is not square, so that sides cannot be mixed up.
    turned = cut(flower, 67, 45, 240, 130)
    for orientation in range(1, 9):
        filter = ("bilinear", "bicubic")[orientation % 2]
        yield GoldenCase(f"exif-{orientation}", turned, JPEG, _asked((32, 24), 34, filter), orientation)
    yield GoldenCase("exif-6-png", turned, PNG, _asked((24, 40), 31, "bicubic"), 6)
    yield GoldenCase("exif-5-squash", turned, JPEG, _asked((20, 44), filter="bicubic", squash=True), 5)

    # Gray, transparent, and with a palette.
    gray = cut(china, 91, 70).convert("L")
    yield GoldenCase("gray-jpeg", gray, JPEG, _asked((40, 40), 46, "bicubic"))
    yield GoldenCase("gray-png", gray, PNG, _asked((40, 40), 46))
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 75).round().astype(np.uint8), (59, 1)))
    rgba, gray_alpha = cut(flower, 75, 59, 240, 130), cut(flower, 75, 59, 240, 130).convert("L")
    rgba.putalpha(alpha)
    gray_alpha.putalpha(alpha)
    yield GoldenCase("rgba", rgba, PNG, _asked((40, 40), 44, "bicubic"))
    yield GoldenCase("gray-with-alpha", gray_alpha, PNG, _asked((40, 40), 44))
    palette = cut(china, 80, 61, 300, 100).quantize(32, dither=Image.Dither.NONE)
    yield GoldenCase("palette", palette, PNG, _asked((40, 40), 45, "bicubic"))
    yield GoldenCase("palette-with-transparency", palette, PNG | {"transparency": 3}, _asked((40, 40), 45))

    # Hard edges, which bicubic overshoots: clipped after each pass. Noise has every value.
    board = np.indices((31, 43)).sum(0) % 2 * 255
    yield GoldenCase(
        "checkerboard-reduced", Image.fromarray(board.astype(np.uint8)), PNG, _asked((16, 16), 19, "bicubic")
    )
    edges = np.kron(np.indices((7, 9)).sum(0) % 2, np.ones((3, 3))) * 255
    yield GoldenCase("edges-enlarged", Image.fromarray(edges.astype(np.uint8)), PNG, _asked((48, 48), 53, "bicubic"))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (53, 71, 3), dtype=np.uint8))
    yield GoldenCase("noise", noise, PNG, _asked((40, 40), 47, "bicubic"))

    # Squashed; crops that are not square, or larger than the resized picture; sizes that need one pass, or none.
    yield GoldenCase("squash-bilinear", cut(china, 97, 61), PNG, _asked((40, 48), squash=True))
    yield GoldenCase("squash-bicubic", cut(china, 41, 95), PNG, _asked((56, 24), filter="bicubic", squash=True))
    yield GoldenCase("wide-crop", cut(flower, 89, 83), JPEG, _asked((24, 72), 40, "bicubic"))
    yield GoldenCase("crop-larger-than-resized", cut(flower, 50, 41), PNG, _asked((64, 48), 30, "bicubic"))
    yield GoldenCase("crop-wider-than-resized", cut(flower, 50, 41), PNG, _asked((40, 80), 44))
    yield GoldenCase("no-pass", cut(china, 58, 40), PNG, _asked((32, 32), 40, "bicubic"))
    yield GoldenCase("horizontal-pass", cut(china, 58, 40), PNG, _asked((40, 37), filter="bicubic", squash=True))
    yield GoldenCase("vertical-pass", cut(china, 37, 58), PNG, _asked((40, 37), filter="bicubic", squash=True))

    # Sizes: halves are rounded to even, of the product with the scale in float64; odd remainders of a crop are floored.
    yield GoldenCase("half-rounds-down", cut(china, 65, 64), PNG, _asked((31, 31), 32, "bicubic"))  # 32.5 -> 32
    yield GoldenCase("half-rounds-up", cut(china, 67, 64), PNG, _asked((31, 31), 32, "bicubic"))  # 33.5 -> 34
    # 25 * (46 / 20) is 57.49999999999999 in float64, and 25 * 46 / 20 is 57.5.
    yield GoldenCase("scale-before-product", cut(flower, 25, 20, 250, 150), PNG, _asked((46, 46), 46, "bicubic"))

    # Strips: of 1 pixel, of just 16:1, and longer ones, of which only the middle is resized.
    yield GoldenCase("one-pixel", cut(china, 1, 1), PNG, _asked((16, 16), 16, "bicubic"))
    yield GoldenCase("one-pixel-wide", cut(china, 1, 13), PNG, _asked((24, 24), 26, "bicubic"))
    yield GoldenCase("one-pixel-high", cut(china, 40, 1), PNG, _asked((24, 24), 26))
    yield GoldenCase("strip-16-to-1", cut(china, 80, 5), PNG, _asked((24, 32), 28, "bicubic"))
    yield GoldenCase("strip-lying", cut(china, 201, 5), PNG, _asked((24, 32), 28, "bicubic"))
    yield GoldenCase("strip-standing", cut(china, 4, 151), PNG, _asked((24, 32), 28))
    yield GoldenCase("strip-turned", cut(china, 118, 5), PNG, _asked((24, 32), 28, "bicubic"), 8)
    yield GoldenCase("strip-squashed", cut(china, 130, 6), PNG, _asked((24, 32), filter="bicubic", squash=True))


def golden_bytes() -> bytes:
    """The golden file."""
    tensors, rows = {}, []
    for case in golden_cases():
        file = case.file()
        decoded = stored_pixels(file)
        crop = crop_image(decode_picture(file), case.preprocessing)
        tensors[f"{case.name}/file"] = np.frombuffer(file, np.uint8)
        tensors[f"{case.name}/decoded"] = decoded
        tensors[f"{case.name}/expected"] = np.ascontiguousarray(crop.transpose(1, 2, 0))
        row = {"name": case.name, "orientation": case.orientation, "resizing": msgspec.to_builtins(case.resizing)}
        rows.append(row | {"width": decoded.shape[1], "height": decoded.shape[0]})
    return safetensors.numpy.save(tensors, metadata={"cases": json.dumps(rows)})


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_bytes(golden_bytes())
    print(f"{GOLDEN}: {GOLDEN.stat().st_size / 1e6:.2f} MB")
