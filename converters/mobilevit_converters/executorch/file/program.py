"""A .pte file read as an untrusted file: its program, and the graphs inside its XNNPACK delegates.

Both are FlatBuffers, whose schemas ExecuTorch's wheel carries.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from mobilevit_converters.executorch.file.flatc import AS_NULL, to_json
from mobilevit_converters.executorch.toolchain import wheel_file
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.files import decode_json
from mobilevit_sdk.formats.entries import entry_names
from mobilevit_sdk.formats.runtime import Size
from mobilevit_sdk.spec import ModelSpec, in_pixels

FORWARD = "forward"  # the method that takes the image; of several image sizes, the first
SPEC = "model_spec"  # the method that returns the ModelSpec, which travels with the model
XNNPACK, COREML, COREAI = "XnnpackBackend", "CoreMLBackend", "CoreAIBackend"  # as programs name their delegates

PROGRAM_SCHEMA, GRAPH_SCHEMA = "exir/_serialize/program.fbs", "backends/xnnpack/serialization/schema.fbs"

# What follows mirrors, as far as it is read here, the tables of executorch/schema/program.fbs ...


class Value(msgspec.Struct):
    """An EValue: a Tensor, a String, a number."""

    val_type: str = "NONE"
    val: dict[str, Any] = {}


class Tensor(msgspec.Struct):
    """The `val` of a Value whose `val_type` is Tensor."""

    scalar_type: str
    sizes: list[int] = []
    dim_order: list[int] = []  # axes from the outermost in memory to the innermost


class String(msgspec.Struct):
    """The `val` of a Value whose `val_type` is String."""

    string_val: str


class Instruction(msgspec.Struct):
    """One step of a chain; `instr_args` holds `op_index` for a KernelCall, `delegate_index` for a DelegateCall."""

    instr_args_type: str
    instr_args: dict[str, Any]


class Chain(msgspec.Struct):
    """A list of instructions."""

    instructions: list[Instruction] = []


class Operator(msgspec.Struct):
    """A kernel of the runtime, such as aten::mean.out."""

    name: str
    overload: str = ""


class DataReference(msgspec.Struct):
    """Where the bytes of a delegate are."""

    location: Literal["INLINE", "SEGMENT"]
    index: int


class Delegate(msgspec.Struct):
    """A part of the graph that a backend runs."""

    id: str
    processed: DataReference


class Plan(msgspec.Struct):
    """A method."""

    name: str
    values: list[Value] = []
    inputs: list[int] = []
    outputs: list[int] = []
    chains: list[Chain] = []
    operators: list[Operator] = []
    delegates: list[Delegate] = []


class Segment(msgspec.Struct):
    """A range of bytes behind the program."""

    offset: int
    size: int


class InlineData(msgspec.Struct):
    """The bytes of a delegate, within the program."""

    data: list[int] = []


class NamedData(msgspec.Struct):
    """Bytes that a backend finds by a name of its own."""

    key: str
    segment_index: int


class Program(msgspec.Struct):
    """The root table."""

    execution_plan: list[Plan]
    segments: list[Segment] = []
    backend_delegate_data: list[InlineData] = []
    named_data: list[NamedData] = []


# ... and of executorch/backends/xnnpack/serialization/schema.fbs.


class XNode(msgspec.Struct):
    """An operator of an XNNPACK graph."""

    xnode_union_type: str
    xnode_union: dict[str, Any] = {}


class XValue(msgspec.Struct):
    """A tensor of an XNNPACK graph; a quantized one holds the plain one as `tensor_value`."""

    xvalue_union: dict[str, Any]

    @property
    def rank(self) -> int:
        return len(self.xvalue_union.get("tensor_value", self.xvalue_union).get("dims", []))


class XGraph(msgspec.Struct):
    """The root table."""

    xnodes: list[XNode] = []
    xvalues: list[XValue] = []


@dataclass(frozen=True)
class ProgramFile:
    """A parsed file."""

    path: Path
    content: bytes
    segments_start: int
    program: Program

    def method(self, name: str) -> Plan | None:
        return next((plan for plan in self.program.execution_plan if plan.name == name), None)

    def delegate_data(self, delegate: Delegate) -> bytes:
        """The bytes that the backend takes. Raises ArtifactError when they are not in the file."""
        reference = delegate.processed
        try:
            if reference.location == "INLINE":
                return bytes(self.program.backend_delegate_data[reference.index].data)
            return self._segment(reference.index)
        except (IndexError, ValueError) as error:
            raise ArtifactError(f"{self.path} is damaged: a delegate refers to data that is not there") from error

    def named_data(self, key: str) -> bytes:
        """The bytes of that name. Raises ArtifactError when they are not in the file, or in it twice."""
        try:
            (index,) = (entry.segment_index for entry in self.program.named_data if entry.key == key)
            return self._segment(index)
        except (IndexError, ValueError) as error:
            raise ArtifactError(f"{self.path} is damaged: it does not hold {key!r} once") from error

    def _segment(self, index: int) -> bytes:
        segment = self.program.segments[index]
        start = self.segments_start + segment.offset
        return self.content[start : start + segment.size]


def read_program(path: Path) -> ProgramFile:
    """Read a .pte file. Raises ArtifactError for anything but a whole program with all its segments.

    The file begins with a flatbuffer; in its first bytes, after the identifier ET12, stands a header "eh00": the sizes
    of header (uint32) and program, the start of the segments and their size (uint64 each, little-endian).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
    if content[4:8] != b"ET12":
        found = content[:8].hex(" ") or "nothing"
        raise ArtifactError(f"{path} is not an ExecuTorch program: expected ET12 at byte 4, found {found}")
    size, start, segments = len(content), 0, 0
    if content[8:12] == b"eh00" and len(content) >= 40:
        header, size, start, segments = struct.unpack_from("<IQQQ", content, 12)
        segments = segments if header >= 32 else 0  # the first version of the header ended before it
    if max(size, start + segments) > len(content):
        raise ArtifactError(f"{path} is truncated: {len(content)} of {max(size, start + segments)} bytes are there")
    program = _decode(path, wheel_file(PROGRAM_SCHEMA), content[:size], Program)
    if any(start + segment.offset + segment.size > len(content) for segment in program.segments):
        raise ArtifactError(f"{path} is truncated or damaged: a segment lies outside the file")
    return ProgramFile(path, content, start, program)


def read_spec(file: ProgramFile) -> ModelSpec | None:
    """The ModelSpec that the method `model_spec` returns, None for a program made by another tool."""
    method = file.method(SPEC)
    if method is None:
        return None
    try:
        (output,) = method.outputs
        text = msgspec.convert(method.values[output].val, String).string_val
        return decode_json(text, ModelSpec)
    except (IndexError, ValueError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{file.path} carries a malformed model spec: {error}") from error


def method_of(path: Path, image_size: Size) -> str:
    """The name of the method for images of a size, by default the first. Raises ArtifactError for another size."""
    names = entry_names(read_spec(read_program(path)), FORWARD)
    if image_size is None or image_size in names:
        return names[image_size] if image_size else FORWARD
    raise ArtifactError(f"{path} has no method for images of {in_pixels(image_size)}")


def read_interface(file: ProgramFile, method: str = FORWARD) -> tuple[Tensor, list[Tensor]]:
    """The image that a method takes and the answers that it gives back, float32 [1, 3, H, W] and [1, num_classes].

    Features are [1, C] or [1, C, h, w]; a detector answers [1, Q, C]. Several answers stand in the order of the spec.

    Raises ArtifactError for any other interface, other orders in memory among them: a runtime silently takes
    whatever bytes it is given.
    """
    forward = file.method(method)
    try:
        if forward is None:
            raise ValueError(f"it has no method `{method}`")
        (given,) = forward.inputs
        image, *answers = (msgspec.convert(forward.values[index].val, Tensor) for index in (given, *forward.outputs))
    except (ValueError, LookupError, TypeError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{file.path} does not go from one image to one row of scores ({error})") from error
    require_outputs(read_spec(file), [tensor.sizes for tensor in answers], file.path)
    for tensor, rank, start in (
        (image, 4, [1, 3]),
        *((each, max(2, min(4, len(each.sizes))), [1]) for each in answers),
    ):
        found = (tensor.scalar_type, tensor.dim_order, len(tensor.sizes), tensor.sizes[: len(start)])
        if found != ("FLOAT", list(range(rank)), rank, start):
            named = f"{tensor.scalar_type.lower()} {tensor.sizes} in the order {tensor.dim_order}"
            raise ArtifactError(f"{file.path} does not go from float32 [1, 3, H, W] to [1, num_classes]: {named}")
    return image, answers


def require_outputs(spec: ModelSpec | None, sizes: Sequence[Sequence[int]], path: Path) -> None:
    """Raise ArtifactError unless answers of these sizes may be the outputs of the spec, or are one without a spec.

    A program has no names for them: their number and the width of the scores are all that can be compared.
    """
    outputs = spec.outputs if spec else (None,)
    fits = len(outputs) == len(sizes)
    if spec and len(spec.outputs) > 1:
        pairs = zip(spec.outputs, sizes, strict=False)
        fits = fits and all(tuple(each) == (1, *output.shape) for output, each in pairs if output.shape is not None)
    if not fits:
        names = " and ".join(output.name for output in spec.outputs) if spec else "one output"
        found = ", ".join(str(list(each)) for each in sizes) or "nothing"
        raise ArtifactError(f"{path} returns {found}, and what it says of itself is {names}; convert again")


def read_sole_delegate(
    file: ProgramFile, backend: str, method: str = FORWARD
) -> tuple[Delegate, Tensor, list[Tensor], list[int]]:
    """The one delegate that a method calls, the image that it takes, the answers that it returns, and where each of
    these stands among the delegate's, whose order is its own.

    Its answer is the program's only where the .pte around it passes the image on unchanged and does nothing else: one
    that does more, calls another `backend`, or does not take float32 [1, 3, H, W] in that order is refused with
    ArtifactError.
    """
    forward = file.method(method)
    try:
        if forward is None:
            raise ValueError(f"it has no method `{method}`")
        (step,) = (instruction for chain in forward.chains for instruction in chain.instructions)
        delegate = forward.delegates[step.instr_args["delegate_index"]]
        (given,) = forward.inputs
        first, *answers = step.instr_args["args"]
        if delegate.id != backend or first != given or sorted(answers) != sorted(set(forward.outputs)):
            raise ValueError(f"its step is {delegate.id} from other values")
    except (ValueError, LookupError, TypeError) as error:
        name = {COREML: "Core ML", COREAI: "Core AI"}.get(backend, backend)
        reason = f"{file.path} is not one {name} delegate from an image to scores"
        raise ArtifactError(f"{reason} ({error})") from error
    return delegate, *read_interface(file, method), [answers.index(output) for output in forward.outputs]


def read_xnnpack_graph(path: Path, data: bytes) -> XGraph:
    """The graph inside an XNNPACK delegate's `data`. Raises ArtifactError.

    A header "XH00" at byte 4 gives the start and the size of the flatbuffer (uint32 each, from byte 10).
    """
    if data[4:8] != b"XH00" or len(data) < 18:
        raise ArtifactError(f"{path} is damaged: its XNNPACK delegate has no header")
    start, size = struct.unpack_from("<II", data, 10)
    return _decode(path, wheel_file(GRAPH_SCHEMA), data[start : start + size], XGraph)


T = TypeVar("T")


def _decode(path: Path, schema: Path, flatbuffer: bytes, table: type[T]) -> T:
    """Print `flatbuffer` as JSON and read the fields of `table` from it."""
    try:
        return decode_json(to_json(schema, flatbuffer, AS_NULL), table)
    except (ValueError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error
