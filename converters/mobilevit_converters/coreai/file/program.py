"""The program of an .aimodel asset: inputs, outputs and operators, read by Apple's library in a process of its own.

The bytecode has no public schema, and a malformed one may crash its native reader.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilevit_converters.coreai.file.asset import MAIN, Asset
from mobilevit_converters.coreai.toolchain import import_coreai
from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.formats.converter import TensorInfo
from mobilevit_sdk.processes import child

TIMEOUT = 600.0  # seconds; the largest network takes less than two, and a starved machine makes no file damaged
_CALLEE = re.compile(r"@\"?([^\"> ]+)")
_COMPOSITE = re.compile(r'composite_declaration<"([^"]+)"')
_NOT_EXECUTED = {"coreai.constant", "coreai.output"}
# MLIR's names of types, where they differ from everyone else's.
_DTYPES = {"f16": "float16", "f32": "float32", "bf16": "bfloat16", "i1": "bool", "si8": "int8", "ui8": "uint8"}


@dataclass(frozen=True)
class Program:
    """A function.

    A call of a composite operator, such as `layer_norm`, counts as one operator under that one's name: a device that
    knows it does not evaluate what it is written as.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: dict[str, int]
    max_rank: int


def read_program(asset: Asset, function: str = MAIN) -> Program:
    """Read a function of `asset` in a child process. Raises ArtifactError for a program that is not Core AI's."""
    import_coreai("coreai")  # so that a missing library is not the file's fault
    try:
        return child.run_in_child(_read, asset.path, function, timeout=TIMEOUT)
    except ToolchainError as error:
        raise ArtifactError(f"Core AI cannot read the program of {asset.path}: {error}") from error


def _read(path: Path, function: str) -> Program:
    """In the child."""
    from coreai.authoring import AIModelAsset

    program = AIModelAsset.load(path).program  # by a name: its graphs are gone when it is
    graphs = graphs_of(program)
    if function not in graphs:
        raise ArtifactError(f"{path} has no function {function!r}; it has {', '.join(sorted(graphs)) or 'none'}")
    main = graphs[function]
    kinds: Counter[str] = Counter()
    ranks = [0]
    for operation in _operations(main):
        if operation.operation.name not in _NOT_EXECUTED:
            kinds[kind_of(operation, graphs)] += 1
            ranks += [result.type.rank for result in operation.results if hasattr(result.type, "rank")]
    block = main.regions[0].blocks[0]
    inputs = _infos(block.arguments, main.attributes["arg_attrs"])
    outputs = _infos(list(block.operations)[-1].operands, main.attributes["res_attrs"])
    return Program(inputs, outputs, dict(sorted(kinds.items())), max(ranks))


def graphs_of(program: Any) -> dict[str, Any]:
    """The graphs of a coreai.authoring.AIProgram by name: its functions, and what its composite operators are."""
    operations = program._module._mlir_module.body.operations
    return {operation.attributes["sym_name"].value: operation for operation in operations}


def _operations(graph: Any) -> Iterator[Any]:
    """All operations of a graph in order, those of nested regions included."""
    for region in graph.regions:
        for block in region.blocks:
            for operation in block.operations:
                yield operation
                yield from _operations(operation)


def kind_of(operation: Any, graphs: dict[str, Any]) -> str:
    """The operator's name without its dialect; that of the composite where a graph of one is called."""
    if operation.operation.name == "coreai.invoke":
        called = graphs.get(_found(_CALLEE, operation.attributes["callee"]))
        if called is not None and "composite_decl" in called.attributes:
            return _found(_COMPOSITE, called.attributes["composite_decl"])
    return str(operation.operation.name).rpartition(".")[2]


def _found(pattern: re.Pattern[str], attribute: Any) -> str:
    """What `pattern` finds in an attribute as text, for those of Core AI that have no other reading in Python."""
    found = pattern.search(str(attribute))
    return found[1] if found else ""


def _infos(values: Any, attributes: Any) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(name=each["coreai.name"].value, shape=tuple(value.type.shape), dtype=_dtype(value.type))
        for value, each in zip(values, attributes, strict=True)
    )


def _dtype(value_type: Any) -> str:
    name = str(value_type.element_type)
    return _DTYPES.get(name, name.replace("si", "int").replace("ui", "uint"))
