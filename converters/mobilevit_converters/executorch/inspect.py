"""Inspection of a .pte file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from mobilevit_converters.executorch.file.coreai_delegate import read_coreai_delegate
from mobilevit_converters.executorch.file.coreml_delegate import read_coreml_delegate
from mobilevit_converters.executorch.file.program import (
    COREAI,
    COREML,
    FORWARD,
    XNNPACK,
    Delegate,
    Plan,
    ProgramFile,
    Tensor,
    read_program,
    read_spec,
    read_xnnpack_graph,
)
from mobilevit_converters.executorch.file.vulkan_delegate import VULKAN, read_vulkan_delegate
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.converter import EntryInspection, Inspection, TensorInfo
from mobilevit_sdk.formats.entries import entry_names, inspection_of
from mobilevit_sdk.spec import ModelSpec

BACKENDS = {XNNPACK: "xnnpack", COREML: "coreml", COREAI: "coreai", VULKAN: "vulkan"}
# ExecuTorch's names of tensor types, where they differ from everyone else's.
DTYPES = {"FLOAT": "float32", "DOUBLE": "float64", "HALF": "float16", "BYTE": "uint8", "CHAR": "int8", "LONG": "int64"}


def inspect(path: Path) -> Inspection:
    """Read a file back, with what its delegates run. Raises ArtifactError for anything but a .pte file.

    `operators` counts what a delegate runs under the names of XNNPACK, MIL, Core AI or, for Vulkan, ATen, and the rest
    under the kernels'; a delegate that cannot be read counts as one operator under its own name. A program names
    neither its input nor its output, so they are numbered; several outputs have the names of the spec. Raises
    ToolchainError for a Core ML delegate without coremltools, and for one of Core AI without coreai-core.
    """
    file = read_program(path)
    spec = read_spec(file)
    entries, ranks, backends = [], [0], set()
    for size, name in entry_names(spec, FORWARD).items():
        entry, rank, ids = _entry(file, spec, name)
        if spec and spec.image_sizes and entry.inputs[0].shape[2:] != size:
            raise ArtifactError(f"{path}: the method `{name}` does not take images of its size")
        entries.append(entry)
        ranks.append(rank)
        backends |= ids
    backend = "+".join(sorted(BACKENDS.get(each, each) for each in backends)) or None
    return inspection_of(entries, max_rank=max(ranks), spec=spec, backend=backend)


def _entry(file: ProgramFile, spec: ModelSpec | None, name: str) -> tuple[EntryInspection, int, set[str]]:
    """What a method holds, its highest rank, and the delegates that it calls."""
    path, forward = file.path, file.method(name)
    if forward is None:
        raise ArtifactError(f"{path} has no method `{name}`")
    try:
        inputs = tuple(_tensor_info(forward, index, f"input_{i}") for i, index in enumerate(forward.inputs))
        outputs = tuple(_tensor_info(forward, index, f"output_{i}") for i, index in enumerate(forward.outputs))
        if spec and len(spec.outputs) == len(outputs) > 1:
            named = zip(outputs, spec.outputs, strict=True)
            outputs = tuple(msgspec.structs.replace(info, name=output.name) for info, output in named)
        calls, kernels = _instructions(forward)
        delegates = [forward.delegates[index] for index in calls]
    except (IndexError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{path} is damaged: `{name}` refers to something that is missing") from error
    operators = Counter(kernels)
    ranks = [len(value.val.get("sizes", [])) for value in forward.values]
    for delegate in delegates:
        inside, rank = _contents(file, delegate)
        operators.update(inside)
        ranks.append(rank)
    entry = EntryInspection(
        name=name,
        inputs=inputs,
        outputs=outputs,
        operators=dict(sorted(operators.items())),
        delegates=len(delegates),
        undelegated_ops=dict(sorted(kernels.items())),
    )
    return entry, max(ranks, default=0), {delegate.id for delegate in delegates}


def _contents(file: ProgramFile, delegate: Delegate) -> tuple[dict[str, int], int]:
    """What a delegate runs: its operators, with counts, and its highest rank. Raises ArtifactError."""
    if delegate.id == XNNPACK:
        graph = read_xnnpack_graph(file.path, file.delegate_data(delegate))
        ranks = (value.rank for value in graph.xvalues)
        return Counter(node.xnode_union_type for node in graph.xnodes), max(ranks, default=0)
    if delegate.id == COREML:
        contents = read_coreml_delegate(file.path, file.delegate_data(delegate))
        if not contents.is_compiled:
            from mobilevit_converters.coreml.inspect import describe

            with contents.package() as package:
                found = describe(package)
            return found.operators, found.max_rank
    if delegate.id == VULKAN:
        contents_of_gpu = read_vulkan_delegate(file, delegate)
        return Counter(step.name for step in contents_of_gpu.graph.chain), max(contents_of_gpu.ranks, default=0)
    if delegate.id == COREAI:
        found_asset = read_coreai_delegate(file, file.delegate_data(delegate))
        if found_asset.files:
            from mobilevit_converters.coreai.file.program import read_program as read_coreai_program

            with found_asset.asset() as asset:
                program = read_coreai_program(asset)
            return program.operators, program.max_rank
    return {delegate.id: 1}, 0


def _instructions(method: Plan) -> tuple[list[int], Counter[str]]:
    """The indices of the delegates that a method calls, and the kernels that it runs outside them, with counts."""
    calls: list[int] = []
    kernels: Counter[str] = Counter()
    for instruction in (instruction for chain in method.chains for instruction in chain.instructions):
        if instruction.instr_args_type == "DelegateCall":
            calls.append(instruction.instr_args["delegate_index"])
        elif instruction.instr_args_type == "KernelCall":
            operator = method.operators[instruction.instr_args["op_index"]]
            kernels[f"{operator.name}.{operator.overload}" if operator.overload else operator.name] += 1
    return calls, kernels


def _tensor_info(method: Plan, index: int, name: str) -> TensorInfo:
    tensor = msgspec.convert(method.values[index].val, Tensor)
    dtype = DTYPES.get(tensor.scalar_type, tensor.scalar_type.lower())
    return TensorInfo(name=name, shape=tuple(tensor.sizes), dtype=dtype)
