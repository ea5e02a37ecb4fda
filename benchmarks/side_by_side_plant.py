"""Faults of a converter, planted into `torch.onnx.export`, which both sides call: see side_by_side_faults.py.

Imported by the `sitecustomize` that the benchmark puts in front of a command's path. The function that both tools
call then converts a network that is wrong in one way; neither tool's own code is touched.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FAULT, MARK = "SIDE_BY_SIDE_FAULT", "SIDE_BY_SIDE_MARK"


class AfterTorchOnnx(importlib.abc.MetaPathFinder):
    """Replaces `torch.onnx.export` as soon as torch.onnx is imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "torch.onnx":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        run = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            module.export = faulty(module.export)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def faulty(export: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.onnx.export` that converts another network than it is given, and leaves a mark that it did."""

    def planted(model: Any, args: Any = (), **options: Any) -> Any:
        import torch

        program = model if isinstance(model, torch.export.ExportedProgram) else torch.export.export(model, args)
        sample = program.example_inputs[0]
        with torch.no_grad():
            network = FAULTS[os.environ[FAULT]](program.module(check_guards=False), *sample)
            wrong = torch.export.export(network, sample)
        written = export(wrong, **options)
        Path(os.environ[MARK]).write_text("planted")  # not where the exporter itself refuses: nobody's check did that
        return written

    return planted


def wrapped(network: Any, before: Callable = lambda x: x, after: Callable = lambda y: y) -> Any:
    """The network with something in front of it or behind it."""
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> Any:
            found = self.network(before(image))
            return (after(found[0]),) if isinstance(found, tuple) else after(found)

    return Wrapped()


def calls(network: Any, *names: str) -> list[Any]:
    """The nodes that call one of these ATen operators."""
    nodes = [n for n in network.graph.nodes if str(n.target).startswith(tuple(f"aten.{name}." for name in names))]
    if not nodes:
        raise LookupError(f"no {names} in {sorted({str(n.target) for n in network.graph.nodes})}")
    return nodes


def edited(network: Any) -> Any:
    network.graph.lint()
    network.recompile()
    return network


def parameter(network: Any, fits: Callable[[Any], bool]) -> Any:
    """The middle one of the fitting parameters, counted from the input."""
    found = [each for each in network.state_dict().values() if fits(each)]
    return found[len(found) // 2]


def normalized_twice(network: Any, image: Any) -> Any:
    import torch

    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return wrapped(network, before=lambda x: (x - mean) / std)


def padded_at_the_end(network: Any, image: Any) -> Any:
    """A strided 3x3 convolution is padded at its right and lower edge alone, as TensorFlow's SAME is."""
    import torch

    node = next(n for n in calls(network, "conv2d") if len(n.args) > 4 and list(n.args[3]) == [2, 2])
    with network.graph.inserting_before(node):
        given = network.graph.call_function(torch.ops.aten.constant_pad_nd.default, (node.args[0], [0, 1, 0, 1], 0.0))
    node.args = (given, *node.args[1:4], [0, 0], *node.args[5:])
    return edited(network)


def dropped_bias(network: Any, image: Any) -> Any:
    """Of the head."""
    bias = [each for name, each in network.state_dict().items() if name.endswith("bias") and each.shape == (10,)]
    bias[-1].zero_()
    return network


def hard_swish(network: Any, image: Any) -> Any:
    import torch

    for node in calls(network, "silu", "silu_"):
        node.target = torch.ops.aten.hardswish.default
    return edited(network)


def large_epsilon(network: Any, image: Any) -> Any:
    """1e-3 instead of 1e-5 in every LayerNorm."""
    for node in calls(network, "layer_norm"):
        node.args = (*node.args[:4], 1e-3)
    return edited(network)


def wrong_axis(network: Any, image: Any) -> Any:
    """One softmax of attention runs over the queries."""
    import torch

    node = calls(network, "softmax", "scaled_dot_product_attention")[0]
    if "softmax" in str(node.target):
        node.args = (node.args[0], node.args[0].meta["val"].dim() - 2, *node.args[2:])
        return edited(network)
    query, key, value = node.args[:3]
    scale = node.kwargs.get("scale") or query.meta["val"].shape[-1] ** -0.5
    add = network.graph.call_function
    with network.graph.inserting_before(node):
        turned = add(torch.ops.aten.transpose.int, (key, -2, -1))
        scores = add(torch.ops.aten.matmul.default, (query, turned))
        scaled = add(torch.ops.aten.mul.Tensor, (scores, scale))
        shares = add(torch.ops.aten.softmax.int, (scaled, -2))
        answer = add(torch.ops.aten.matmul.default, (shares, value))
    node.replace_all_uses_with(answer)
    network.graph.erase_node(node)
    return edited(network)


def dropped_residual(network: Any, image: Any) -> Any:
    """One addition of two maps returns the second alone."""
    adds = [n for n in calls(network, "add", "add_") if all(hasattr(each, "meta") for each in n.args[:2])]
    adds = [n for n in adds if n.args[0].meta["val"].shape == n.args[1].meta["val"].shape]
    node = adds[len(adds) // 2]
    node.replace_all_uses_with(node.args[1])
    network.graph.erase_node(node)
    return edited(network)


def transposed_weight(network: Any, image: Any) -> Any:
    """A square weight of a projection."""
    weight = parameter(network, lambda w: w.dim() >= 2 and w.shape[0] == w.shape[1] > 8 and w[0, 0].numel() == 1)
    weight.copy_(weight.transpose(0, 1).clone())
    return network


def turned_sign(network: Any, image: Any) -> Any:
    """Of the largest value of one weight."""
    weight = parameter(network, lambda w: w.dim() >= 2).view(-1)
    weight[weight.abs().argmax()] *= -1
    return network


def eight_bits(network: Any, image: Any) -> Any:
    """Every weight is rounded to 255 steps, where float32 was asked for."""
    for weight in network.state_dict().values():
        if weight.is_floating_point() and weight.dim() >= 2:
            step = weight.abs().max() / 127
            weight.copy_((weight / step).round() * step)
    return network


def baked_in(network: Any, image: Any) -> Any:
    """The answer to the picture that the network was traced with, whatever the input is."""
    found = network(image)
    answer = found[0] if isinstance(found, tuple) else found
    return wrapped(network, after=lambda scores: answer + 0 * scores)


def nothing_over_nothing(network: Any, image: Any) -> Any:
    """The input is divided by its maximum and multiplied with it again: NaN for a black picture."""
    return wrapped(network, before=lambda x: x / (highest := x.amax((1, 2, 3), keepdim=True)) * highest)


def overflow(network: Any, image: Any) -> Any:
    """The first map goes through float16, scaled so that bright colors leave its range."""
    import torch

    node = calls(network, "silu", "silu_")[0]
    add = network.graph.call_function
    with network.graph.inserting_after(node):
        large = add(torch.ops.aten.mul.Tensor, (node, 30000.0))
    with network.graph.inserting_after(large):
        half = add(torch.ops.aten.to.dtype, (large, torch.float16))
    with network.graph.inserting_after(half):
        single = add(torch.ops.aten.to.dtype, (half, torch.float32))
    with network.graph.inserting_after(single):
        small = add(torch.ops.aten.mul.Tensor, (single, 1 / 30000))
    node.replace_all_uses_with(small, delete_user_cb=lambda user: user is not large)
    return edited(network)


def exchanged(scores: Any) -> Any:
    order = list(range(scores.shape[-1]))
    order[3], order[5] = 5, 3
    return scores[:, order]


FAULTS: dict[str, Callable[[Any, Any], Any]] = {
    "none": lambda network, image: network,
    "red and blue exchanged": lambda network, image: wrapped(network, before=lambda x: x.flip(1)),
    "normalized a second time": normalized_twice,
    "padded at the end": padded_at_the_end,
    "bias of the head dropped": dropped_bias,
    "SiLU as hard swish": hard_swish,
    "epsilon of LayerNorm": large_epsilon,
    "softmax over the queries": wrong_axis,
    "a residual dropped": dropped_residual,
    "a weight transposed": transposed_weight,
    "one sign in one weight": turned_sign,
    "weights rounded to 8 bits": eight_bits,
    "classes shifted by one": lambda network, image: wrapped(network, after=lambda y: y.roll(1, -1)),
    "two classes exchanged": lambda network, image: wrapped(network, after=exchanged),
    "the traced answer baked in": baked_in,
    "NaN for a black picture": nothing_over_nothing,
    "float16 overflow": overflow,
}

if os.environ.get(FAULT):
    sys.meta_path.insert(0, AfterTorchOnnx())
