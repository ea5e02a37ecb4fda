"""Inspection of a .tflite file, and of what LiteRT's CPU runtime delegates."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mobilevit_converters.tflite.file.associated_files import DESCRIPTION, read_spec
from mobilevit_converters.tflite.file.delegation import xnnpack_delegation
from mobilevit_converters.tflite.file.entries import GraphEntry, entries_of
from mobilevit_converters.tflite.file.flatbuffer import read_model
from mobilevit_converters.tflite.file.hazards import hazards_of
from mobilevit_converters.tflite.file.metadata import read_metadata
from mobilevit_converters.tflite.file.schema import builtin_name, tensor_types
from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.formats.converter import EntryInspection, Inspection, TensorInfo
from mobilevit_sdk.formats.entries import inspection_of, summed
from mobilevit_sdk.processes.child import run_in_child


def inspect(path: Path) -> Inspection:
    """Read a file back: its flatbuffer, the archive behind it, and how XNNPACK takes it.

    The delegation is what LiteRT does on this machine, in a process of its own; None where it cannot load the file.
    Raises ArtifactError when it is not a TFLite model.
    """
    model = read_model(path)
    spec = read_spec(path, required=model.Description() == DESCRIPTION)
    graphs = entries_of(path, model, spec)
    found = [_entry(path, model, each, alone=len(graphs) == 1) for each in graphs.values()]
    return inspection_of(
        [entry for entry, _, _ in found],
        max_rank=max(rank for _, rank, _ in found),
        hazards=summed(hazards for _, _, hazards in found) if len(found) > 1 else found[0][2],
        metadata=read_metadata(path, model),
        spec=spec,
    )


def _entry(path: Path, model: Any, entry: GraphEntry, *, alone: bool) -> tuple[EntryInspection, int, dict[str, int]]:
    """What a signature holds, its highest rank, and its hazards."""
    graph = model.Subgraphs(entry.graph)
    try:
        names = _signature_names(model, entry.signature)
        inputs = [_tensor_info(graph, graph.Inputs(i), names) for i in range(graph.InputsLength())]
        outputs = [_tensor_info(graph, graph.Outputs(i), names) for i in range(graph.OutputsLength())]
        codes = (graph.Operators(i).OpcodeIndex() for i in range(graph.OperatorsLength()))
        operators = [_operator_name(model.OperatorCodes(code)) for code in codes]
        hazards = hazards_of(graph, operators)
    except Exception as error:  # the generated reader raises whatever damaged offsets lead to
        raise ArtifactError(f"{path} is damaged: its operators or its interface cannot be read") from error
    delegates, undelegated = _delegation(path, None if alone else entry.name)
    inspected = EntryInspection(
        name=entry.name,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        operators=dict(sorted(Counter(operators).items())),
        delegates=delegates,
        undelegated_ops=undelegated,
    )
    rank = max((graph.Tensors(i).ShapeLength() for i in range(graph.TensorsLength())), default=0)
    return inspected, rank, hazards


def _signature_names(model: Any, index: int) -> dict[int, str]:
    """What a signature calls the tensors of the interface."""
    if model.SignatureDefsLength() == 0:
        return {}
    signature = model.SignatureDefs(index)
    inputs = (signature.Inputs(i) for i in range(min(signature.InputsLength(), 64)))
    outputs = (signature.Outputs(i) for i in range(min(signature.OutputsLength(), 64)))
    return {tensor.TensorIndex(): tensor.Name().decode() for tensor in (*inputs, *outputs)}


def _tensor_info(graph: Any, index: int, names: dict[int, str]) -> TensorInfo:
    tensor = graph.Tensors(index)
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    dtype = tensor_types()[tensor.Type()].lower()
    return TensorInfo(name=names.get(index) or tensor.Name().decode(), shape=shape, dtype=dtype)


def _operator_name(code: Any) -> str:
    if code.CustomCode():
        return str(code.CustomCode().decode())
    return builtin_name(code.BuiltinCode(), code.DeprecatedBuiltinCode())


def _delegation(path: Path, signature: str | None) -> tuple[int, dict[str, int]] | tuple[None, None]:
    try:
        return run_in_child(xnnpack_delegation, path, signature)
    except ToolchainError:
        return None, None
