"""The graph inside a Vulkan delegate in a .pte file, read as an untrusted file."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mobilevit_converters.executorch.file.flatc import AS_PYTHON, to_json
from mobilevit_converters.executorch.file.program import Delegate, ProgramFile
from mobilevit_converters.executorch.toolchain import wheel_file
from mobilevit_sdk.errors import ArtifactError

VULKAN = "VulkanBackend"  # as programs name the delegate
SCHEMA = "backends/vulkan/serialization/schema.fbs"
HEADER = struct.Struct("<4s4sHIIIQ")  # zeros, "VH00", its size; start and size of the flatbuffer and of the constants
NAMED = (1 << 64) - 1  # the offset of a constant that the program holds under a name
BYTES = {"FLOAT16": 2, "FLOAT32": 4}  # of an element, by its type

# What follows mirrors, as far as it is read here, the tables of executorch/backends/vulkan/serialization/schema.fbs.


class VkTensor(msgspec.Struct):
    """The `value` of a VkValue whose `value_type` is VkTensor; a `constant_id` below 0 is that of a computed one."""

    datatype: str
    constant_id: int
    dims: list[int] = []


class VkValue(msgspec.Struct):
    """A tensor, a number, a list of numbers or of values, or Null."""

    value_type: str
    value: dict[str, Any] = {}


class VkOperator(msgspec.Struct):
    """One call: the values that it takes and, last, the one that it computes."""

    name: str
    args: list[int] = []


class VkBytes(msgspec.Struct):
    """Where the bytes of a constant are: behind the graph, or in the program under a name."""

    offset: int
    length: int
    named_key: str = ""


class VkGraph(msgspec.Struct):
    """The root table."""

    chain: list[VkOperator] = []
    values: list[VkValue] = []
    input_ids: list[int] = []
    output_ids: list[int] = []
    constants: list[VkBytes] = []


@dataclass(frozen=True)
class VulkanDelegate:
    """A delegate's graph with what it takes to find its constants."""

    file: ProgramFile
    graph: VkGraph
    constants: bytes

    def tensor(self, value: int) -> VkTensor | None:
        """The value of that index as a tensor, None where it is something else. Raises ArtifactError."""
        found = self.graph.values[value] if 0 <= value < len(self.graph.values) else None
        if found is None or found.value_type != "VkTensor":
            return None
        try:
            return msgspec.convert(found.value, VkTensor)
        except msgspec.MsgspecError as error:
            raise ArtifactError(f"{self.file.path} is damaged: {error} in its Vulkan delegate") from error

    def constant(self, tensor: VkTensor) -> bytes:
        """The bytes of a constant, as many as its type and shape take. Raises ArtifactError."""
        try:
            place = self.graph.constants[tensor.constant_id]
            found = (
                self.file.named_data(place.named_key)
                if place.offset == NAMED
                else self.constants[place.offset : place.offset + place.length]
            )
            expected = BYTES[tensor.datatype] * math.prod(tensor.dims)
        except LookupError as error:
            raise ArtifactError(f"{self.file.path} is damaged: a constant of its Vulkan delegate is missing") from error
        if not len(found) == place.length == expected:
            wrong = f"a constant of {len(found)} bytes where {expected} are stated"
            raise ArtifactError(f"{self.file.path} is damaged: its Vulkan delegate has {wrong}")
        return found

    @property
    def ranks(self) -> Sequence[int]:
        """Of all its tensors."""
        tensors = (self.tensor(index) for index in range(len(self.graph.values)))
        return [len(tensor.dims) for tensor in tensors if tensor is not None]


def read_vulkan_delegate(file: ProgramFile, delegate: Delegate) -> VulkanDelegate:
    """The graph that a Vulkan delegate runs. Raises ArtifactError where it is malformed."""
    data = file.delegate_data(delegate)
    if data[4:8] != b"VH00" or len(data) < HEADER.size:
        raise ArtifactError(f"{file.path} is damaged: its Vulkan delegate has no header")
    _, _, _, start, size, constants, constants_size = HEADER.unpack_from(data)
    if start + size > len(data) or constants + constants_size > len(data):
        raise ArtifactError(f"{file.path} is damaged: its Vulkan delegate is cut off")
    try:
        text = to_json(wheel_file(SCHEMA), data[start : start + size], AS_PYTHON)
        graph = msgspec.convert(json.loads(text), VkGraph)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{file.path} is damaged: its Vulkan delegate: {error}") from error
    return VulkanDelegate(file, graph, data[constants : constants + constants_size])
