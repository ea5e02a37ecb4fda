"""Evaluation of a Vulkan delegate's graph, operator by operator, in the precision that it states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mobilevit_converters.executorch.file.vulkan_delegate import VkOperator, VkTensor, VulkanDelegate
from mobilevit_converters.executorch.runtimes.vulkan_reference.operators import OPERATORS, call
from mobilevit_sdk.errors import ArtifactError, ToolchainError

_DTYPES = {"FLOAT16": torch.float16, "FLOAT32": torch.float32, "INT32": torch.int32}  # integers: places of maxima
# How the file writes what is not a tensor, and under which field.
_PLAIN = {
    "Int": "int_val",
    "Bool": "bool_val",
    "Double": "double_val",
    "String": "string_val",
    "IntList": "items",
    "DoubleList": "items",
}


class VulkanProgram:
    """A graph with its constants. Values travel as float32, rounded to float16 where the graph states float16.

    With `truncate` they are rounded toward zero instead of to the nearest.
    """

    def __init__(self, delegate: VulkanDelegate, *, truncate: bool = False) -> None:
        """Read all constants. Raises ArtifactError for a damaged file, ToolchainError for an unknown operator."""
        self.path = delegate.file.path
        self.graph = delegate.graph
        self._delegate = delegate
        self._truncate = truncate
        for step in self.graph.chain:
            if step.name not in OPERATORS:
                raise ToolchainError(f"{self.path}: vulkan-reference does not know operator {step.name}")
        self._constants: dict[int, Tensor] = {}
        for index in range(len(self.graph.values)):
            tensor = delegate.tensor(index)
            if tensor is not None and tensor.constant_id >= 0:
                content = bytearray(delegate.constant(tensor))
                self._constants[index] = torch.frombuffer(content, dtype=self._dtype(tensor)).view(tensor.dims).float()

    def shape(self, value: int) -> tuple[int, ...] | None:
        """Of a tensor; None for anything else."""
        tensor = self._delegate.tensor(value)
        return None if tensor is None else tuple(tensor.dims)

    def results(self, step: VkOperator) -> list[int]:
        """The values that a step computes. Raises ArtifactError where it states none."""
        last = self._index(step.args[-1] if step.args else -1)
        value = self.graph.values[last]
        return [last] if value.value_type != "ValueList" else [self._index(i) for i in value.value.get("items", [])]

    @torch.inference_mode()
    def __call__(
        self, image: Tensor, on_value: Callable[[int, Tensor], None] = lambda index, value: None
    ) -> list[Tensor]:
        """The answers to an image; `on_value` gets every value that is computed, in order, by its index."""
        if len(self.graph.input_ids) != 1 or not self.graph.output_ids:
            raise ArtifactError(f"{self.path} is damaged: its Vulkan delegate has not one input and an output")
        values = dict(self._constants)
        (given,) = self.graph.input_ids
        values[given] = self._as_stated(image, given, "the input")
        for step in self.graph.chain:
            try:
                found = call(step.name, [self._argument(index, values) for index in step.args[:-1]])
                for index, result in zip(self.results(step), found, strict=True):
                    values[index] = self._as_stated(result, index, step.name)
                    on_value(index, values[index])
            except (ArtifactError, ToolchainError):
                raise
            except Exception as error:
                raise ToolchainError(f"{self.path}: vulkan-reference cannot evaluate {step.name}: {error}") from error
        if not set(self.graph.output_ids) <= values.keys():
            raise ArtifactError(f"{self.path} is damaged: its Vulkan delegate never computes its answer")
        return [values[answered] for answered in self.graph.output_ids]

    def _argument(self, index: int, values: dict[int, Tensor]) -> Any:
        if index in values:
            return values[index]
        stated = self.graph.values[self._index(index)]
        if stated.value_type == "Null":
            return None
        if stated.value_type == "ValueList":
            return [self._argument(self._index(item), values) for item in stated.value.get("items", [])]
        if stated.value_type in _PLAIN:
            return _whole(stated.value[_PLAIN[stated.value_type]])
        raise ArtifactError(
            f"{self.path} is damaged: value {index} of its Vulkan delegate is read before it is computed"
        )

    def _as_stated(self, value: Tensor, index: int, place: str) -> Tensor:
        tensor = self._delegate.tensor(index)
        if tensor is None or list(value.shape) != tensor.dims:
            stated = "no tensor" if tensor is None else tensor.dims
            raise ToolchainError(f"{self.path}: {place} is {list(value.shape)} where the file states {stated}")
        dtype = self._dtype(tensor)
        return _truncated(value) if self._truncate and dtype == torch.float16 else value.to(dtype).float()

    def _dtype(self, tensor: VkTensor) -> torch.dtype:
        if tensor.datatype not in _DTYPES:
            raise ToolchainError(f"{self.path}: vulkan-reference does not know the type {tensor.datatype}")
        return _DTYPES[tensor.datatype]

    def _index(self, index: int) -> int:
        if not 0 <= index < len(self.graph.values):
            raise ArtifactError(f"{self.path} is damaged: its Vulkan delegate refers to a value that is not there")
        return index


def _truncated(value: Tensor) -> Tensor:
    """To the next float16 toward zero: the one before the nearest where that is larger."""
    nearest = value.half()
    before = (nearest.view(torch.int16) - 1).view(torch.float16)
    return torch.where(nearest.float().abs() > value.float().abs(), before, nearest).float()


def _whole(value: Any) -> Any:
    """A number as an integer where it is one: the file has equal numbers once, 0 and 0.0 among them."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53 else value
