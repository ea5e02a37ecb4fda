"""The vocabulary of quantization, the same for every format: precisions, the recipe, and images to calibrate with."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, get_args

from msgspec import Meta

from mobilevit_sdk.data.calibration import CalibrationImages
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import decode_json, read_text
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.text import one_line

Precision = Literal["fp32", "fp16", "int8", "int8-dynamic", "int8-weight", "int4-weight"]

# The names mean the same in every format.
PRECISIONS: dict[Precision, str] = {
    "fp32": "float32",
    "fp16": "weights in float16; Core ML computes in it too",
    "int8": "weights (by output channel) and activations (by tensor, ranges from calibration) in 8 bits",
    "int8-dynamic": "weights in 8 bits; the inputs of products quantized at run time",
    "int8-weight": "weights in 8 bits, computed in floating point",
    "int4-weight": "weights in 4 bits, in 8 where a format cannot; computed in floating point or as int8-dynamic",
}
# Integer precisions: their artifacts are judged by the task that the network was trained for.
QUANTIZED = tuple(name for name in PRECISIONS if name.startswith("int"))

OperatorKind = Literal["convolution", "linear", "activation", "add", "multiply", "concat", "pool", "resize", "pad"]
RangeMethod = Literal["minmax", "percentile", "entropy"]


class QuantizationRecipe(Strict, frozen=True):
    """What is quantized, and how.

    `operators` are those that `int8` computes in integers. Norms and softmax never are: one outlier channel would take
    all 256 levels. Nor are the products of attention: XNNPACK multiplies two activations in floating point only, so
    that integers would split its delegate. `float_modules` are modules of the reference form, with everything below
    them, that keep floating point in every quantized precision; `stages.2.*` stands for each module below `stages.2`.
    """

    operators: tuple[OperatorKind, ...] = get_args(OperatorKind)
    float_modules: tuple[str, ...] = ()
    ranges: RangeMethod = "percentile"
    percentile: Annotated[float, Meta(gt=50, le=100)] = 99.999
    group_size: Annotated[int, Meta(ge=8, le=1024)] = 32  # weights that share a scale in int4-weight, where they can
    bias_correction: bool = True

    def keeps_float(self, module: str) -> bool:
        """Whether `module`, a path such as "stages.2.1.transformer.0.mlp.fc1", is one of `float_modules` or below.

        The phone graph's own "normalization" of the image always is: nine numbers that every answer depends on.
        """
        parts = module.split(".")
        above = [".".join(parts[: end + 1]) for end in range(len(parts))]
        return any(fnmatchcase(path, pattern) for pattern in (*self.float_modules, "normalization") for path in above)


@dataclass(frozen=True)
class Quantization:
    """What a converter needs in order to quantize: the recipe, and images to find ranges with."""

    recipe: QuantizationRecipe
    images: CalibrationImages


def read_recipe(path: Path) -> QuantizationRecipe:
    """Read a recipe from a JSON file. Raises RequestError with the file and what is wrong in it."""
    try:
        return decode_json(read_text(path), QuantizationRecipe)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        about_operators = "$.operators" in str(error)
        known = f"; operators are {', '.join(get_args(OperatorKind))}, all else stays float" if about_operators else ""
        raise RequestError(f"{path} is not a quantization recipe: {one_line(str(error))}{known}") from error


def as_recipe(given: QuantizationRecipe | Path | str | None) -> QuantizationRecipe:
    """A recipe, or the one in a file; None is the default. Raises RequestError as `read_recipe` does."""
    if given is None:
        return QuantizationRecipe()
    return given if isinstance(given, QuantizationRecipe) else read_recipe(Path(given))


# Matrices with fewer weights keep 8 bits: they are a tiny share of a network's size and most of what 4 bits would cost.
MIN_INT4_WEIGHTS = 4096


def uncalibrated_sizes(precision: str) -> str | None:
    """Why a file of this precision holds one image size only, for `HoldsSizes.refuses_sizes`; None if it need not."""
    if precision not in QUANTIZED:
        return None
    return f"{precision} is not calibrated for several; use fp32 or fp16, or convert each size into a folder of its own"
