"""Any picture that Pillow reads, as upright RGB with 8 bits a channel: the one way in for every command."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import ExifTags, Image

# Pillow knows dozens of other formats, one of which starts Ghostscript: not for untrusted files. The last two have
# plugins of their own, and are read where one is registered.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "HEIF", "JXL")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_BLACK = 15  # 10 or 12 bits in a file of 16 end below a fifteenth of the range
_OVERSHOOT = 0.1  # of floats around [0, 1], as sharpening and resampling leave it


@functools.cache
def image_formats() -> tuple[str, ...]:
    """The formats that this Pillow reads, of those that are safe to try on untrusted files."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The file name suffixes of `image_formats`, in lower case, such as ".jpg"."""
    formats = image_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def decode_picture(encoded: bytes) -> Image.Image:
    """An encoded picture, of an animation the first frame, as `to_rgb` gives it.

    Raises whatever Pillow's decoders raise: UnidentifiedImageError for another format, and OSError, SyntaxError,
    ValueError and others for broken and unfit files.
    """
    with Image.open(io.BytesIO(encoded), formats=image_formats()) as image:
        return to_rgb(image)


def stored_size(encoded: bytes) -> tuple[int, int]:
    """Width and height of an encoded picture before its EXIF orientation is applied; raises as `decode_picture`."""
    with Image.open(io.BytesIO(encoded), formats=image_formats()) as image:
        return image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as upright RGB with 8 bits a channel; the result carries no metadata.

    The EXIF orientation is applied. Transparent parts are laid over white. Gray levels of more than 8 bits are scaled:
    white is the highest value of the file's integers (65535 for 16 bits, and for an image in memory of mode "I"), and
    1.0 for floats. Raises ValueError for floats that lie outside [0, 1] by more than 0.1 or are not finite, and for
    integers that end below a fifteenth of their range, as 12 bits in a file of 16 do: the file says another range.
    """
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        rgb = _eight_bits(image).convert("RGB")
    elif image.has_transparency_data:
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
    else:
        rgb = image.convert("RGB")
    if (orientation := _orientation(image)) in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    rgb.info.clear()  # the orientation among it, which is not to be applied twice
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data say nothing of the pixels, and Pillow raises many kinds on them
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """A gray picture of 12 to 32 bits, or of floats -> mode "L"."""
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    clear = values == image.info.get("transparency")
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # false for NaN too
            raise ValueError(f"its floats lie in {low:g} to {high:g}; scale them to 0 to 1")
        shares = values.clip(0, 1)
    else:
        bits = tags.get(_BITS, (16,))[0]
        signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == 2
        white = 2 ** (bits - signed) - 1
        values = values.view(np.uint32) if bits == 32 and not signed else values
        if 0 < values.max() < white / _BLACK:
            raise ValueError(f"its values end at {values.max()}, which is near black on their range of 0 to {white}")
        shares = values.clip(0, white) / white
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero: Pillow inverts such pictures up to 8 bits only
        shares = 1 - shares
    return Image.fromarray(np.where(clear, 255, np.rint(shares * 255)).astype(np.uint8))
