"""What an app feeds a phone file: the tensor or picture, and how it makes that of a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mobilevit_sdk.spec import Preprocessing, Strict

if TYPE_CHECKING:
    from mobilevit_sdk.formats.converter import TensorInfo

PICTURE = "RGB image"  # the dtype of an input that takes a picture of the system, such as a CVPixelBuffer


class Resizing(Strict, frozen=True):
    """How an app brings an upright photograph to the size of the input: resize, then crop the center.

    "shorter side": to `size` [N], keeping the proportions, or larger where the crop needs it. "squash": to `size`
    [height, width]. The filter's support grows with the reduction, as in Pillow, and unlike most system functions.
    """

    mode: Literal["shorter side", "squash"]
    size: tuple[int, ...]  # pixels
    filter: Literal["bilinear", "bicubic"]
    antialias: bool
    center_crop: tuple[int, int] | None  # height, width in pixels; None: nothing is cropped

    def describe(self) -> str:
        """One line for people."""
        smooth = f"{self.filter}, antialiased" if self.antialias else self.filter
        if self.center_crop is None:
            return f"squashed to {self.size[0]}x{self.size[1]} ({smooth})"
        return f"shorter side to {self.size[0]} ({smooth}), center {self.center_crop[0]}x{self.center_crop[1]}"


class AppInput(Strict, frozen=True):
    """The input of a phone file as an app must fill it.

    Nothing is normalized by the app: channel order and mean and std of the training are in the graph.
    """

    name: str
    layout: Literal["NCHW", "NHWC", "picture"]
    shape: tuple[int, ...]
    dtype: str
    channel_order: Literal["RGB"]
    range: tuple[float, float]  # of the values; a picture's are bytes, which the file scales itself
    mean_and_std: Literal["in the graph"]
    resizing: Resizing

    def describe(self) -> str:
        """One line for people."""
        if self.layout == "picture":
            return f"{self.name}: an RGB picture of {self.shape[-2]}x{self.shape[-1]}; mean and std are in the graph"
        shape = "x".join(map(str, self.shape))
        return f"{self.name}: {self.dtype} {self.layout} {shape}, RGB in [0, 1]; mean and std are in the graph"


def resizing_of(preprocessing: Preprocessing) -> Resizing:
    """What `data.crop_image` does to an upright picture, as an app is told."""
    squashed = preprocessing.resize_mode == "squash"
    return Resizing(
        mode="squash" if squashed else "shorter side",
        size=preprocessing.image_size if squashed else (preprocessing.resize_size,),
        filter=preprocessing.interpolation,
        antialias=True,
        center_crop=None if squashed else preprocessing.image_size,
    )


def app_input_of(inputs: Sequence[TensorInfo], preprocessing: Preprocessing) -> AppInput | None:
    """What an app feeds a file with these inputs; None for files that do not take a single image of this size."""
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return None
    tensor, (height, width) = inputs[0], preprocessing.image_size
    layouts: dict[tuple[int, ...], Literal["NCHW", "NHWC"]] = {
        (3, height, width): "NCHW",
        (height, width, 3): "NHWC",
    }
    layout = layouts.get(tensor.shape[1:])
    is_picture = tensor.dtype == PICTURE
    if layout is None or (tensor.dtype.endswith("image") and not is_picture):
        return None
    return AppInput(
        name=tensor.name,
        layout="picture" if is_picture else layout,
        shape=tensor.shape,
        dtype="uint8" if is_picture else tensor.dtype,
        channel_order="RGB",
        range=(0.0, 255.0) if is_picture else (0.0, 1.0),
        mean_and_std="in the graph",
        resizing=resizing_of(preprocessing),
    )
