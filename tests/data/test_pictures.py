"""Pictures of every mode become upright RGB with 8 bits a channel: gradients keep their ends and their order."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilevit_sdk.data import crop_image, open_dataset
from mobilevit_sdk.data.pictures import decode_picture, image_suffixes, to_rgb
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.spec import Preprocessing


def _save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _tiff(samples: np.ndarray, *, bits: int, sample_format: int, photometric: int = 1) -> bytes:
    """A gray TIFF in one strip: [H, W] in the byte order of the array, or packed rows of 12 bits."""
    height, width = samples.shape
    if bits == 12:
        packed = samples.astype(np.uint16)
        pairs = packed[:, 0::2].astype(np.uint32) << 12 | packed[:, 1::2]
        strip = b"".join(int(pair).to_bytes(3, "big") for pair in pairs.ravel())
    else:
        strip = samples.tobytes()
    order = ">" if samples.dtype.byteorder == ">" else "<"
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric}
    tags |= {273: 8 + 2 + 12 * 10 + 4, 277: 1, 278: height, 279: len(strip), 339: sample_format}
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags.items())
    return header + struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", 0) + strip


def _in_mode(mode: str, kind: str, **options: object) -> Callable[[np.ndarray], bytes]:
    return lambda gray: _save(Image.fromarray(gray).convert("RGB").convert(mode), kind, **options)


def _deep(kind: str) -> Callable[[np.ndarray], bytes]:
    return lambda gray: _save(Image.fromarray(gray.astype(np.uint16) * 257), kind)


def _clear_palette(gray: np.ndarray) -> bytes:
    """A palette picture whose highest color is transparent, and black beneath."""
    image = Image.fromarray(gray).convert("P")
    image.putpalette([level for color in range(255) for level in (color,) * 3] + [0, 0, 0])
    return _save(image, "PNG", transparency=255)


def _clear_alpha(gray: np.ndarray, mode: str, kind: str) -> bytes:
    """Black whose alpha is the inverse of the gradient: over white, the gradient."""
    image = Image.new("RGBA", gray.shape[::-1])
    image.putalpha(Image.fromarray(255 - gray))
    return _save(image.convert(mode), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))


# What writes a gray gradient, uint8 [H, W], and by how many levels the picture may differ from it.
WRITERS: dict[str, tuple[Callable[[np.ndarray], bytes], float]] = {
    **{f"PNG {mode}": (_in_mode(mode, "PNG"), 0) for mode in ("L", "LA", "RGB", "RGBA")},
    "PNG P": (lambda gray: _save(Image.fromarray(gray).convert("P"), "PNG"), 0),
    "PNG P with transparency": (_clear_palette, 0),
    "PNG I;16": (_deep("PNG"), 0),
    **{f"PNG {mode} over white": (lambda gray, m=mode: _clear_alpha(gray, m, "PNG"), 1) for mode in ("LA", "RGBA")},
    "WEBP RGBA over white": (lambda gray: _clear_alpha(gray, "RGBA", "WEBP"), 1),
    **{f"TIFF {mode}": (_in_mode(mode, "TIFF"), 2) for mode in ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB")},
    **{f"JPEG {mode}": (_in_mode(mode, "JPEG", quality=100), 4) for mode in ("L", "RGB", "CMYK", "YCbCr")},
    "GIF P": (lambda gray: _save(Image.fromarray(gray).convert("P"), "GIF"), 0),
    "BMP RGB": (_in_mode("RGB", "BMP"), 0),
    "AVIF RGB": (_in_mode("RGB", "AVIF", quality=100), 4),
    "JPEG2000 L": (_in_mode("L", "JPEG2000"), 0),
    "JPEG2000 I;16": (_deep("JPEG2000"), 0),
    "PGM of 16 bits": (_deep("PPM"), 0),
    "PFM": (lambda gray: _save(Image.fromarray(gray.astype(np.float32) / 255), "PPM"), 0),
    "TIFF I;16": (lambda g: _tiff(g.astype("<u2") * 257, bits=16, sample_format=1), 0),
    "TIFF I;16B": (lambda g: _tiff((g.astype(np.uint16) * 257).astype(">u2"), bits=16, sample_format=1), 0),
    "TIFF of 12 bits": (lambda g: _tiff(np.rint(g / 255 * 4095), bits=12, sample_format=1), 0),
    "TIFF of signed 16 bits": (lambda g: _tiff(np.rint(g / 255 * 32767).astype("<i2"), bits=16, sample_format=2), 0),
    "TIFF of 32 bits": (lambda g: _tiff((g.astype(np.uint32) * 16843009).astype("<u4"), bits=32, sample_format=1), 0),
    "TIFF of signed 32 bits": (lambda g: _tiff((g / 255 * (2**31 - 1)).astype(">i4"), bits=32, sample_format=2), 0),
    "TIFF of floats": (lambda g: _tiff((g / 255).astype("<f4"), bits=32, sample_format=3), 0),
    "TIFF I;16, white is zero": (
        lambda g: _tiff(65535 - g.astype("<u2") * 257, bits=16, sample_format=1, photometric=0),
        0,
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
@given(height=st.integers(1, 5), width=st.sampled_from([16, 64, 256]), falling=st.booleans())
def test_gradient_of_every_mode_stays_that_gradient(writer: str, height: int, width: int, falling: bool) -> None:
    write, tolerance = WRITERS[writer]
    line = np.rint(np.linspace(0, 255, width)).astype(np.uint8)
    gray = np.broadcast_to(line[::-1] if falling else line, (height, width))
    image = decode_picture(write(np.ascontiguousarray(gray)))
    assert (image.mode, image.size) == ("RGB", (width, height))
    pixels = np.asarray(image).astype(int)
    assert np.abs(pixels - gray[:, :, None]).max() <= tolerance


def test_bilevel_picture_is_black_and_white() -> None:
    halves = np.repeat([[0, 255]], 8, axis=1).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        image = decode_picture(_save(Image.fromarray(halves).convert("1"), kind))
        np.testing.assert_array_equal(np.asarray(image)[:, :, 1], halves)


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "RGBX", "HSV", "I;16L", "I;16N", "I"])
def test_image_in_memory_of_a_rare_mode_is_taken(mode: str) -> None:
    gray = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    if mode.startswith("I"):
        stored = {"I": "i4", "I;16L": "<u2", "I;16N": "u2"}[mode]
        image = Image.frombytes(mode, (256, 1), (np.arange(256) * 257).astype(stored).tobytes())
    else:
        image = gray.convert("LA" if mode in ("La", "PA") else "RGBA" if mode == "RGBa" else "RGB").convert(mode)
    np.testing.assert_allclose(np.asarray(to_rgb(image)).astype(int)[0, :, 0], np.arange(256), atol=1)


def test_transparent_gray_level_of_16_bits_is_white() -> None:
    levels = np.array([[0, 1000, 65535]], np.uint16)
    image = decode_picture(_save(Image.fromarray(levels), "PNG", transparency=1000))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (_tiff(np.full((2, 2), 255, "<f4"), bits=32, sample_format=3), "its floats lie in 255 to 255; scale them"),
        (_tiff(np.full((2, 2), np.nan, "<f4"), bits=32, sample_format=3), "its floats lie in nan to nan"),
        (
            _tiff(np.full((2, 2), 4095, "<i4"), bits=32, sample_format=2),
            "end at 4095, which is near black on",
        ),
        (
            _tiff(np.full((2, 2), 100, "<u2"), bits=16, sample_format=1),
            "end at 100, which is near black on",
        ),
        (_tiff(np.array([[0, 4095]], "<u2"), bits=16, sample_format=1), "end at 4095, which is near black on"),
    ],
    ids=["floats to 255", "not a number", "12 bits in 32", "8 bits in 16", "12 bits in 16"],
)
def test_levels_on_another_range_than_the_files_are_refused(tmp_path: Path, encoded: bytes, message: str) -> None:
    (tmp_path / "a.tif").write_bytes(encoded)
    with pytest.raises(RequestError, match=r"a\.tif cannot be decoded.*" + message):
        open_dataset(tmp_path).image(0)


def test_black_stays_black_and_overshoot_is_clipped() -> None:
    black = _tiff(np.zeros((2, 2), "<i4"), bits=32, sample_format=2)
    assert not np.asarray(decode_picture(black)).any()
    ringing = _tiff(np.array([[-0.05, 1.05]], "<f4"), bits=32, sample_format=3)
    assert np.asarray(decode_picture(ringing))[0, :, 0].tolist() == [0, 255]


# How a camera that was held otherwise stores an upright picture (EXIF 2.32, tag 274).
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "PNG I;16"])
@pytest.mark.parametrize("orientation", STORED)
def test_phone_photo_stands_upright(kind: str, orientation: int) -> None:
    upright = np.add.outer(np.arange(24) * 8, np.arange(40)).astype(np.uint8)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    image = Image.fromarray(stored.astype(np.uint16) * 257 if kind == "PNG I;16" else stored)
    exif = Image.Exif()
    exif[274] = orientation
    decoded = decode_picture(_save(image, kind.split()[0], exif=exif, quality=100))
    assert decoded.size == (40, 24)
    np.testing.assert_allclose(np.asarray(decoded)[:, :, 0].astype(int), upright, atol=6)
    assert to_rgb(decoded) == decoded  # not turned twice
    crop = crop_image(decoded, Preprocessing(image_size=(24, 40), resize_size=24))
    np.testing.assert_array_equal(crop, np.asarray(decoded).transpose(2, 0, 1))


def test_damaged_exif_data_leave_the_picture_as_it_is() -> None:
    gray = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(4, 16) * 4)
    for exif in (b"Exif\x00\x00", b"Exif\x00\x00MM\x00*\xff\xff\xff\xff", b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff"):
        assert decode_picture(_save(gray, "JPEG", exif=exif)).size == (16, 4)


def test_suffixes_are_those_of_the_formats_that_pillow_reads_here() -> None:
    assert image_suffixes() >= {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".jp2"}
    assert not image_suffixes() & {".eps", ".ps", ".pdf", ".wmf", ".h5", ".heic"}
