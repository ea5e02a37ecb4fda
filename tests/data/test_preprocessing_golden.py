"""The golden preprocessing cases: the SDK gives them, and the algorithm of docs/guides/artifact-folder.md does."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import safetensors
from make_preprocessing_golden import GOLDEN, golden_bytes, golden_cases, stored_pixels

from mobilevit_sdk.data.pictures import decode_picture
from mobilevit_sdk.data.preprocessing import crop_image

CASES = list(golden_cases())
NAMES = [case.name for case in CASES]


@pytest.fixture(scope="module")
def golden():
    with safetensors.safe_open(GOLDEN, framework="numpy") as file:
        cases = {case["name"]: case for case in json.loads(file.metadata()["cases"])}
        return cases, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_the_file_is_what_its_script_makes(golden) -> None:
    assert list(golden[0]) == NAMES
    assert GOLDEN.stat().st_size < 1.5e6
    fresh = safetensors.numpy.load(golden_bytes())
    assert sorted(fresh) == sorted(golden[1])
    differing = [
        name for name in fresh if not name.endswith("/file") and not np.array_equal(fresh[name], golden[1][name])
    ]
    assert differing == []  # the files' bytes depend on the build of zlib


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_sdk_decodes_the_file_and_crops_it_to_what_is_expected(case, golden) -> None:
    row, file = golden[0][case.name], golden[1][f"{case.name}/file"].tobytes()
    decoded, expected = golden[1][f"{case.name}/decoded"], golden[1][f"{case.name}/expected"]
    np.testing.assert_array_equal(stored_pixels(file), decoded)
    np.testing.assert_array_equal(crop_image(decode_picture(file), case.preprocessing).transpose(1, 2, 0), expected)
    assert (row["height"], row["width"], 3) == decoded.shape
    assert row["resizing"]["size"] == list(case.resizing.size)


@pytest.mark.parametrize("name", NAMES)
def test_the_documented_algorithm_gives_the_same_bytes(name, golden) -> None:
    row, decoded = golden[0][name], golden[1][f"{name}/decoded"]
    ours = app_crop(upright(decoded, row["orientation"]), row["resizing"])
    np.testing.assert_array_equal(ours, golden[1][f"{name}/expected"])


def test_the_cases_tell_other_algorithms_apart(golden) -> None:
    """Each shortcut that apps take misses the bar of 1 on average and 3 at worst in some case, or the size."""
    shortcuts = {
        "no antialiasing": {"antialias": False},
        "the other filter": {"other_filter": True},
        "halves rounded up": {"rounding": lambda x: math.floor(x + 0.5)},
        "multiplied before divided": {"product_first": True},
        "not turned": {"turn": False},
        "strips not cropped": {"longest": 10**9},
        "no rounding between the passes": {"rounded_passes": False},
    }
    missed = {name: [] for name in shortcuts}
    for shortcut, options in shortcuts.items():
        for name, row in golden[0].items():
            turn = options.get("turn", True)
            picture = upright(golden[1][f"{name}/decoded"], row["orientation"] if turn else 1)
            expected = golden[1][f"{name}/expected"].astype(int)
            difference = np.abs(app_crop(picture, row["resizing"], **options).astype(int) - expected)
            if difference.mean() > 1 or difference.max() > 3:
                missed[shortcut].append(name)
    assert [shortcut for shortcut, names in missed.items() if not names] == []


# What follows is the algorithm in plain arithmetic, as an app has to write it; nothing of it calls the SDK or Pillow.

TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p[::-1].transpose(1, 0, 2),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: p[:, ::-1].transpose(1, 0, 2),
}
BITS = 22


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    return TURNS[orientation](pixels)


def app_crop(pixels, resizing, longest=16, rounding=round, product_first=False, turn=True, **options) -> np.ndarray:
    """An upright picture [h, w, 3] -> what `resizing` of an app's input asks for."""
    filter = resizing["filter"]
    if resizing["mode"] == "squash":
        return resize(pixels, *resizing["size"], filter, **options)
    crop_height, crop_width = resizing["center_crop"]
    height, width = pixels.shape[:2]
    longest = longest * min(height, width)
    if max(height, width) > longest:
        pixels = center(pixels, min(height, longest), min(width, longest))
        height, width = pixels.shape[:2]
    scale = max(resizing["size"][0] / min(height, width), crop_width / width, crop_height / height)
    by_scale = lambda side: side * resizing["size"][0] / min(height, width) if product_first else side * scale  # noqa: E731
    new_height, new_width = max(crop_height, rounding(by_scale(height))), max(crop_width, rounding(by_scale(width)))
    return center(resize(pixels, new_height, new_width, filter, **options), crop_height, crop_width)


def center(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def resize(pixels, height, width, filter, other_filter=False, **options) -> np.ndarray:
    if other_filter:
        filter = {"bilinear": "bicubic", "bicubic": "bilinear"}[filter]
    rows = one_pass(pixels.transpose(1, 0, 2), width, filter, **options).transpose(1, 0, 2)  # horizontal first
    columns = one_pass(rows, height, filter, **options)
    return np.clip(np.rint(columns), 0, 255).astype(np.uint8) if not options.get("rounded_passes", True) else columns


def one_pass(pixels, size, filter, antialias=True, rounded_passes=True) -> np.ndarray:
    """Resize the first axis to `size`."""
    if pixels.shape[0] == size:
        return pixels
    out = np.empty((size, *pixels.shape[1:]), np.float64)
    for position, (first, weights) in enumerate(taps(pixels.shape[0], size, filter, antialias)):
        window = pixels[first : first + len(weights)].astype(np.float64)
        out[position] = np.tensordot(weights, window, 1)
    if not rounded_passes:
        return out / 2**BITS
    return np.clip((out.astype(np.int64) + (1 << (BITS - 1))) >> BITS, 0, 255).astype(np.uint8)


def taps(old: int, new: int, filter: str, antialias: bool = True):
    """For each new pixel: the first old one that it is made of, and integer weights of that and the following."""
    function, support = {"bilinear": (triangle, 1.0), "bicubic": (cubic, 2.0)}[filter]
    scale = old / new
    stretch = max(scale, 1.0) if antialias else 1.0
    for position in range(new):
        middle = (position + 0.5) * scale
        first = max(0, int(middle - support * stretch + 0.5))
        end = min(old, int(middle + support * stretch + 0.5))
        weights = [function((x - middle + 0.5) * (1 / stretch)) for x in range(first, end)]
        total = sum(weights)
        yield first, [math.trunc(w / total * 2**BITS + math.copysign(0.5, w / total)) for w in weights]


def triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0
