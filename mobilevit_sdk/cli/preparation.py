"""The options that say how a checkpoint is fed and named, one set for every command that opens one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class ImageSize(click.ParamType):
    """`256` or `256x192`: height and width in pixels."""

    name = "N|HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        sides = str(value).lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() and 32 <= int(side) <= 4096 for side in sides):
            self.fail(
                f"{value!r} is not a size from 32 to 4096 pixels, such as 256, or 256x192 (height x width)", param
            )
        return int(sides[0]), int(sides[-1])


class ImageSizes(ImageSize):
    """One size, or several with commas between: a tuple of them."""

    name = "N|HxW[,...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return tuple(ImageSize.convert(self, each.strip(), param, ctx) for each in str(value).split(","))


class _ThreeNumbers(click.ParamType):
    name = "R,G,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = [float(each) for each in str(value).split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            self.fail(f"{value!r} is not a number, or three such as 0.485,0.456,0.406", param, ctx)
        return tuple(numbers * (3 // len(numbers)))


class _Resize(click.ParamType):
    name = "N|squash"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if value == "squash":
            return {"resize_mode": "squash"}
        if not str(value).isdecimal() or not 1 <= int(value) <= 65536:
            self.fail(f"{value!r} is neither a number of pixels nor 'squash'", param, ctx)
        return {"resize_mode": "shorter", "resize_size": int(value)}


_IMAGE_SIZE = click.option("--image-size", type=ImageSize(), help="Input in pixels, square or height x width.")
_IMAGE_SIZES = click.option(
    "--image-size",
    type=ImageSizes(),
    help="Input in pixels, square or height x width; several, such as 224x224,256x192, for one file that takes each.",
)
_OPTIONS = (
    click.option(
        "--windows",
        type=click.Choice(["keep", "scale"]),
        help="At another image size, windows keep their size or scale.  [default: as the family's own code does]",
    ),
    click.option(
        "--preprocessing",
        "preprocessing_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="How images are prepared: a preprocessor_config.json, or timm's config.json.",
    ),
    click.option("--resize", type=_Resize(), help="Shorter side in pixels before the crop, or squash: no crop."),
    click.option("--interpolation", type=click.Choice(["bilinear", "bicubic"]), help="Filter of the resize."),
    click.option("--channel-order", type=click.Choice(["rgb", "bgr"]), help="Order that the network was trained on."),
    click.option("--mean", type=_ThreeNumbers(), help="Subtracted, of pixels from 0 to 1; in the channel order."),
    click.option("--std", type=_ThreeNumbers(), help="Divided by, of pixels from 0 to 1; in the channel order."),
)
_LICENSE = click.option("--license", metavar="TEXT", help="License of the weights; unknown unless they state it.")
_NAMES = ("mean", "std", "channel_order", "interpolation")


def preparation_options(*, image_size: bool = True, license: bool = True, several: bool = False) -> Callable[[F], F]:
    """Decorator that adds the options and gives the command a `preparation`; without some where a command has its own.

    `several` lets the image size be several.
    It stands next to the function, below the other options, whose help then comes first.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            from mobilevit_sdk.checkpoints.preparation import Preparation

            fields = {name: value for name in _NAMES if (value := kwargs.pop(name)) is not None}
            size = kwargs.pop("image_size") if image_size else None
            sizes = size if several and size else ()
            preparation = Preparation(
                image_size=size if not sizes else sizes[0] if len(sizes) == 1 else None,
                image_sizes=sizes if len(sizes) > 1 else (),
                windows=kwargs.pop("windows"),
                preprocessing=kwargs.pop("preprocessing_file"),
                fields=(kwargs.pop("resize") or {}) | fields,
                license=kwargs.pop("license") if license else None,
            )
            return function(*args, preparation=preparation, **kwargs)

        options = (
            *([_IMAGE_SIZES if several else _IMAGE_SIZE] if image_size else []),
            *_OPTIONS,
            *([_LICENSE] if license else []),
        )
        for option in reversed(options):
            run = option(run)
        return run  # type: ignore[return-value]

    return decorate
