"""Every value in a .pte file's XNNPACK delegates as an output of the program, so that ExecuTorch returns it.

The delegate's graph is rewritten: each value that one of its operators computes becomes an external output, for
which the program around it gets a tensor. Operators and weights stay as they are.
"""

from __future__ import annotations

import json
import math
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_converters.executorch.file.flatc import AS_PYTHON, to_flatbuffer, to_json
from mobilevit_converters.executorch.file.program import FORWARD, GRAPH_SCHEMA, XNNPACK, read_program
from mobilevit_converters.executorch.runtimes.session import load_program
from mobilevit_converters.executorch.toolchain import import_module, wheel_file
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.taps import Tap, TappedArtifact

EXTERNAL_OUTPUT = 2  # XNN_VALUE_FLAG_EXTERNAL_OUTPUT
HEADER = struct.Struct("<4s4sHIIIQ")  # zeros, "XH00", its size; then where the flatbuffer and the constants are
ALIGNMENT = 16  # bytes, of tensors and of the parts of a delegate
FLOATS = {"xnn_datatype_fp32": ("FLOAT", 4), "xnn_datatype_fp16": ("HALF", 2)}  # ExecuTorch's name, and the bytes


def tap(path: Path, method: str = FORWARD) -> TappedArtifact:
    """See `mobilevit_sdk.formats.taps.TappedRuntime.tap`."""
    read_program(path)  # an incomplete program is refused before anything else reads it
    try:
        taps, content = _expose(path.read_bytes(), method)
    except (LookupError, ValueError, TypeError, AssertionError, struct.error) as error:
        raise ArtifactError(f"the values within {path} cannot be made outputs: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        edited = Path(folder) / path.name
        edited.write_bytes(content)
        to_input, run, _ = load_program(edited, method)

    def values(pixels: np.ndarray) -> list[np.ndarray]:
        return [output.numpy().astype(np.float32) for output in run(to_input(pixels))]

    return TappedArtifact(taps, values)


def _expose(content: bytes, method: str) -> tuple[tuple[Tap, ...], bytes]:
    """The taps of a method, and the program that has them as outputs."""
    serialization = import_module("executorch.exir._serialize._program")
    file = serialization.deserialize_pte_binary(content)
    schema = import_module("executorch.exir.schema")
    plan = next(plan for plan in file.program.execution_plan if plan.name == method)
    taps: list[Tap] = []
    plan.outputs = []
    for instruction in (instruction for chain in plan.chains for instruction in chain.instructions):
        call = instruction.instr_args
        if not isinstance(call, schema.DelegateCall) or plan.delegates[call.delegate_index].id != XNNPACK:
            continue
        inline = file.program.backend_delegate_data[plan.delegates[call.delegate_index].processed.index]
        graph, constants = _read(inline.data)
        for value, operator in _computed(graph):
            if value["flags"] & EXTERNAL_OUTPUT:
                plan.outputs.append(call.args[value["external_id"]])
            else:
                value["flags"] |= EXTERNAL_OUTPUT
                value["external_id"] = graph["num_externs"]
                graph["num_externs"] += 1
                graph["output_ids"].append(value["id_out"])
                plan.outputs.append(_add_tensor(schema, plan, value["dims"], value["datatype"]))
                call.args.append(plan.outputs[-1])
            taps.append(Tap(operator, f"value {value['id_out']}", tuple(value["dims"])))
        inline.data = _write(graph, constants)
    if not taps:
        raise ValueError("nothing in it is delegated to XNNPACK")
    return tuple(taps), bytes(serialization.serialize_pte_binary(file, extract_delegate_segments=True))


def _computed(graph: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The values in floating point that operators of an XNNPACK graph compute, in order, each with its operator."""
    plain = {value["xvalue_union"]["id_out"]: value["xvalue_union"] for value in graph["xvalues"] if _is_float(value)}
    for node in graph["xnodes"]:
        for field, number in node["xnode_union"].items():
            if field.startswith("output") and field.endswith("_id") and number in plain:
                yield plain[number], node["xnode_union_type"]


def _is_float(value: dict[str, Any]) -> bool:
    return value["xvalue_union_type"] == "XNNTensorValue" and value["xvalue_union"]["datatype"] in FLOATS


def _add_tensor(schema: Any, plan: Any, sizes: list[int], datatype: str) -> int:
    """Add a tensor to a method, with memory of its own behind what was planned; returns its index."""
    scalar_type, width = FLOATS[datatype]
    start = plan.non_const_buffer_sizes[1]
    plan.non_const_buffer_sizes[1] += _aligned(width * math.prod(sizes))
    tensor = schema.Tensor(
        scalar_type=schema.ScalarType[scalar_type],
        storage_offset=0,
        sizes=list(sizes),
        dim_order=list(range(len(sizes))),
        requires_grad=False,
        layout=0,
        data_buffer_idx=0,
        allocation_info=schema.AllocationDetails(
            memory_id=1, memory_offset_low=start & 0xFFFFFFFF, memory_offset_high=start >> 32
        ),
        shape_dynamism=schema.TensorShapeDynamism.STATIC,
    )
    plan.values.append(schema.EValue(tensor))
    return len(plan.values) - 1


def _read(data: bytes) -> tuple[dict[str, Any], bytes]:
    """A delegate's graph, as flatc prints it, and its constants."""
    _, mark, _, start, size, constants, constants_size = HEADER.unpack_from(data)
    if mark != b"XH00":
        raise ValueError("an XNNPACK delegate has no header")
    graph = json.loads(to_json(wheel_file(GRAPH_SCHEMA), data[start : start + size], AS_PYTHON))
    return graph, data[constants : constants + constants_size]


def _write(graph: dict[str, Any], constants: bytes) -> bytes:
    flatbuffer = to_flatbuffer(wheel_file(GRAPH_SCHEMA), json.dumps(graph))
    start = _aligned(HEADER.size)
    behind = _aligned(start + len(flatbuffer))
    header = HEADER.pack(b"", b"XH00", HEADER.size, start, len(flatbuffer), behind, len(constants))
    return header.ljust(start, b"\0") + flatbuffer.ljust(behind - start, b"\0") + constants


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
