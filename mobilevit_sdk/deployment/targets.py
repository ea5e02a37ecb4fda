"""Targets as data: what each backend takes whole, and in which form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor
from torch.fx import Node

from mobilevit_sdk.deployment.products import EQUATION
from mobilevit_sdk.errors import RequestError, suggest

Condition = Callable[[Node], str | None]  # what is wrong with a use of an operator; None where it is fine


@dataclass(frozen=True)
class Target:
    """A backend: the operators of an exported graph that it runs in one piece, and the forms that it prefers.

    `operators` are those of ATen, as torch.export names them, each with the condition on its use. `layer_norm` is the
    form of LayerNorm that the backend runs without leaving its delegate, and `global_norm` that of a norm over a whole
    map: for backends without an operator for it, pools and 1x1 convolutions keep the map in its layout. `tokens` is the
    preferred layout: rows [B, N, C] of matrix products, or maps [1, C, P, N] with channels first. `product_rank` is the
    rank of batched products: 3 with the heads of attention folded into the batch, 4 with an axis of their own.
    `cascaded_attention` is of linears on tokens, or of 1x1 convolutions on maps and products with transposed maps.
    `input_normalization` is a 1x1 convolution, or a subtraction where the first convolution takes over the rest. With
    `float16` the backend may compute in float16, and residual streams are scaled to fit. With `norm_affine` its
    LayerNorm has gain and bias, which therefore stay there. Without `exact_gelu` its GELU is the tanh approximation,
    and without `batched_convolutions` it convolves one map at a time.
    """

    name: str
    max_rank: int
    layer_norm: Literal["native", "matmul", "decomposed"]
    operators: Mapping[str, Condition]
    global_norm: Literal["native", "matmul"] = "matmul"
    tokens: Literal["rows", "channels-first"] = "rows"
    product_rank: Literal[3, 4] = 3
    cascaded_attention: Literal["tokens", "maps"] = "tokens"
    input_normalization: Literal["convolution", "subtraction"] = "convolution"
    float16: bool = False
    norm_affine: bool = False
    exact_gelu: bool = True
    batched_convolutions: bool = True


def _always(node: Node) -> str | None:
    return None


def _of_tensors(node: Node) -> str | None:
    """XNNPACK adds and multiplies tensors; with a Python number it is another operator, which stays outside."""
    return (
        None if all(isinstance(argument, Node) for argument in node.args[:2]) else "with a number instead of a tensor"
    )


def _over_space(node: Node) -> str | None:
    """A mean that is a global pool: over H and W of [B, C, H, W], both kept."""
    source, axes, *keep = node.args
    rank = rank_of(source)
    spatial = rank == 4 and isinstance(axes, (list, tuple)) and {int(a) % 4 for a in axes} == {2, 3}  # type: ignore[arg-type]
    kept = bool(keep and keep[0]) or bool(node.kwargs.get("keepdim"))
    return None if spatial and kept else f"over axes {axes} of rank {rank}, expected a global pool that keeps H and W"


def _over_space_or_channels(node: Node) -> str | None:
    """A global pool, or a mean over the channels of [B, C, H, W], which are kept."""
    source, axes, *keep = node.args
    over_channels = rank_of(source) == 4 and axes == [1] and bool(keep and keep[0])
    return None if over_channels else _over_space(node)


def _last_axis(node: Node) -> str | None:
    axis = node.args[1]
    rank = rank_of(node.args[0])
    return None if axis in (-1, rank - 1) else f"over axis {axis} of rank {rank}, expected the last"


def _over_space_or_last_axis(node: Node) -> str | None:
    """A global pool, or a mean over the last axis, which is kept."""
    axes, *keep = node.args[1:]
    last = axes in ([-1], [rank_of(node.args[0]) - 1]) and bool(keep and keep[0])
    return None if last else _over_space(node)


def _channels_or_last_axis(node: Node) -> str | None:
    return None if rank_of(node.args[0]) == 4 and node.args[1] == 1 else _last_axis(node)


def _sum_over_width(node: Node) -> str | None:
    """The sum of a product with scores: over the last axis of [B, C, H, W], which is kept."""
    source, axes, *keep = node.args
    fits = rank_of(source) == 4 and axes in ([-1], [3]) and bool(keep and keep[0])
    return None if fits else f"over axes {axes} of rank {rank_of(source)}, expected the last of 4, kept"


def _channels_first_product(node: Node) -> str | None:
    """MIL's own `einsum`: [B, C, H, W] times [B, W, H, U]. Any other equation becomes transposes and matmuls."""
    equation = str(node.args[0])
    letters = dict(zip(dict.fromkeys(c for c in equation if c.isalpha()), "nchwu", strict=False))
    renamed = "".join(letters.get(c, c) for c in equation)
    return None if renamed == "nchw,nwhu->nchu" else f"with the equation {equation}, expected one like nchw,nwhu->nchu"


def _rank4_product(node: Node) -> str | None:
    """The one einsum that litert-torch writes as a BATCH_MATMUL of rank 4, and without a transposed operand."""
    letters = dict(zip(dict.fromkeys(c for c in str(node.args[0]) if c.isalpha()), "bhndm", strict=False))
    renamed = "".join(letters.get(c, c) for c in str(node.args[0]))
    if renamed != EQUATION:
        return f"with the equation {node.args[0]}, expected one like {EQUATION}"
    left = node.args[1][0]  # type: ignore[index]
    if not _depends_on_the_image(left):  # type: ignore[arg-type]
        return "a constant times a tensor, which LiteRT's GPU refuses; put the constant on the right of the product"
    return None


def _depends_on_the_image(node: Node) -> bool:
    """Whether a node is computed from what the graph is given: converters fold all others into constants."""
    seen, waiting = {node}, [node]
    while waiting:
        found = waiting.pop()
        if found.op == "placeholder" and not found.name.startswith(("p_", "b_", "c_")):  # torch.export's own tensors
            return True
        waiting += [each for each in found.all_input_nodes if each not in seen]
        seen.update(found.all_input_nodes)
    return False


def _not_of_rank_3(node: Node) -> str | None:
    return f"a batched product of rank 3, which GPUs of phones compute wrongly; write torch.einsum({EQUATION!r}, x, y)"


def _with_zeros(node: Node) -> str | None:
    mode = node.args[2] if len(node.args) > 2 else "constant"
    return None if mode == "constant" else f"in mode {mode!r}, expected 'constant'"


def _without_padding(node: Node) -> str | None:
    """A pool pads with -inf, which LiteRT's XNNPACK leaves outside."""
    padding = node.args[3] if len(node.args) > 3 else 0
    return None if padding in (0, [0, 0]) else f"with a padding of {padding}; pad with zeros before it"


def _of_one_map(node: Node) -> str | None:
    """Vulkan convolves a single image, in one group or depthwise; any other number of groups it ignores."""
    image, weight = (_shape_of(argument) for argument in node.args[:2])
    groups = node.args[6] if len(node.args) > 6 else 1
    if image[0] != 1:
        return f"of a batch of {image[0]}, expected 1"
    return None if groups == 1 or groups == image[1] == weight[0] else f"in {groups} groups, expected 1 or depthwise"


def _with_gain_and_bias(node: Node) -> str | None:
    axes, gain, bias = (*node.args[1:4], None, None)[:3]
    given = isinstance(gain, Node) and isinstance(bias, Node)
    return None if given and len(axes) == 1 else f"over axes {axes}, expected the last, with gain and bias"  # type: ignore[arg-type]


def _tanh_approximation(node: Node) -> str | None:
    kind = node.kwargs.get("approximate", "none")
    return None if kind == "tanh" else f"with approximate={kind!r}, which Vulkan computes as 'tanh'"


def _shape_of(value: object) -> tuple[int, ...]:
    found = value.meta.get("val") if isinstance(value, Node) else value
    return tuple(found.shape) if isinstance(found, Tensor) else ()


def rank_of(value: object) -> int:
    """The rank of a node's result in an exported graph; 0 where that is not a tensor."""
    found = value.meta.get("val") if isinstance(value, Node) else value
    return found.dim() if isinstance(found, Tensor) else 0


_EVERYWHERE: dict[str, Condition] = {
    "conv2d.default": _always,
    "linear.default": _always,
    "bmm.default": _always,
    "softmax.int": _last_axis,
    "relu.default": _always,
    "max_pool2d.default": _without_padding,
    "silu.default": _always,
    "gelu.default": _always,
    "sigmoid.default": _always,
    "tanh.default": _always,
    "mean.dim": _over_space,
    "cat.default": _always,
    "slice.Tensor": _always,
    "pad.default": _with_zeros,
    "permute.default": _always,
    "transpose.int": _always,
    "reshape.default": _always,
    "view.default": _always,
    "flatten.using_ints": _always,
    "unsqueeze.default": _always,
    "upsample_bilinear2d.vec": _always,
}
_ARITHMETIC = ("add.Tensor", "sub.Tensor", "mul.Tensor", "rsqrt.default")
_XNNPACK = {name: condition for name, condition in _EVERYWHERE.items() if name != "unsqueeze.default"}
_CHANNELS_FIRST: dict[str, Condition] = {
    name: condition for name, condition in _EVERYWHERE.items() if name not in ("linear.default", "bmm.default")
}
_NATIVE_NORMS = _EVERYWHERE | dict.fromkeys((*_ARITHMETIC, "layer_norm.default"), _always)
_LITERT = _NATIVE_NORMS | {
    "mean.dim": _over_space_or_last_axis,
    "bmm.default": _not_of_rank_3,
    "einsum.default": _rank4_product,
}

_COREML = Target("coreml", 4, layer_norm="native", global_norm="native", operators=_NATIVE_NORMS, float16=True)
# What Apple recommends for its Neural Engine; the device decides what runs there.
_COREML_ANE = Target(
    "coreml-ane",
    max_rank=4,
    layer_norm="native",
    operators=_CHANNELS_FIRST
    | dict.fromkeys((*_ARITHMETIC, "pixel_shuffle.default", "pixel_unshuffle.default", "split.Tensor"), _always)
    | {
        "einsum.default": _channels_first_product,
        "mean.dim": _over_space_or_channels,
        "softmax.int": _channels_or_last_axis,
        "sum.dim_IntList": _sum_over_width,
    },
    tokens="channels-first",
    float16=True,
)

TARGETS = {
    target.name: target
    for target in (
        _COREML,
        _COREML_ANE,
        # The same processors behind Apple's newer framework, which asks for the same forms. Its norm over a whole map
        # loses 30 dB in float32 where the mean is large beside the deviation, as on black and white images.
        replace(_COREML, name="coreai", global_norm="matmul"),
        replace(_COREML_ANE, name="coreai-ane"),
        # One file for both: the CPU's graph has to fit the GPU too, in float16 and in the rank of its products.
        Target("litert-cpu", max_rank=5, layer_norm="decomposed", operators=_LITERT, product_rank=4, float16=True),
        Target("litert-gpu", max_rank=4, layer_norm="decomposed", operators=_LITERT, product_rank=4, float16=True),
        # ExecuTorch's XNNPACK partitioner leaves native_layer_norm, and any mean but a global pool, to slow kernels.
        Target(
            "xnnpack",
            max_rank=4,
            layer_norm="matmul",
            operators=_XNNPACK | dict.fromkeys(_ARITHMETIC, _of_tensors) | {"rsqrt.default": _always},
        ),
        # onnxruntime folds transposes into its products, and computes three channels of a convolution as 8 or 16. ncnn
        # computes a norm over a whole map wrongly.
        Target(
            "onnx",
            max_rank=4,
            layer_norm="native",
            operators=_NATIVE_NORMS | dict.fromkeys(("split.Tensor", "split_with_sizes.default"), _always),
            cascaded_attention="maps",
            input_normalization="subtraction",
            float16=True,
        ),
        # ExecuTorch's Vulkan partitioner also takes what its runtime computes otherwise or refuses when it loads.
        Target(
            "vulkan",
            max_rank=4,
            layer_norm="native",
            operators=_EVERYWHERE
            | dict.fromkeys(_ARITHMETIC, _of_tensors)
            | {
                "rsqrt.default": _always,
                "conv2d.default": _of_one_map,
                "gelu.default": _tanh_approximation,
                "layer_norm.default": _with_gain_and_bias,
            },
            float16=True,
            norm_affine=True,
            exact_gelu=False,
            batched_convolutions=False,
        ),
    )
}


def find_target(name: str) -> Target:
    """The target `name`. Raises RequestError, with similar names, for an unknown one."""
    if name not in TARGETS:
        raise RequestError(f"unknown target {name!r}; {suggest(name, TARGETS)}")
    return TARGETS[name]
