"""The lowering to Core AI: ExecuTorch's, with programs converted and written as those of our .aimodel files are."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from operator import getitem
from pathlib import Path
from typing import Any

from torch import nn
from torch.export import ExportedProgram

from mobilevit_converters.coreai.convert import to_program
from mobilevit_converters.coreai.file.asset import MAIN, make_metadata_stable
from mobilevit_converters.coreai.toolchain import import_coreai_torch, quiet
from mobilevit_converters.executorch.file.coreai_delegate import OUTPUT
from mobilevit_converters.executorch.passes.lowering import MADE_FOR
from mobilevit_converters.executorch.passes.replacement import is_there, replaced
from mobilevit_converters.executorch.toolchain import NO_RUNTIME, availability, import_module
from mobilevit_sdk.deployment import InHalf, exported
from mobilevit_sdk.errors import ConversionWarning, ToolchainError
from mobilevit_sdk.spec import ModelSpec

_PREPROCESS = "executorch.backends.apple.coreai.compiler.preprocess"
_PREPARE = f"{_PREPROCESS}:_prepare_program_for_conversion"
REPLACES = (f"{_PREPROCESS}:_convert_to_aiprogram", f"{_PREPROCESS}:_save_asset")


def lower_to_coreai(graph: nn.Module, spec: ModelSpec, precision: str, strings: dict[str, str]) -> bytes:
    """For iOS 27 and newer, like our .aimodel; the whole graph in one delegate, or a ToolchainError.

    `strings` are the program's methods that return one.
    """
    import_coreai_torch()
    names = [output.name for output in spec.outputs]
    if len(names) > 1:  # a delegate returns them in an order of its own, which the program around it knows
        names = [f"{OUTPUT}{i}" for i in range(len(names))]
    with quiet():
        traced = exported(InHalf(graph) if precision == "fp16" else graph, spec.preprocessing.image_size)
        exir = import_module("executorch.exir")
        config = import_module("executorch.backends.apple.coreai").get_default_compile_config()
        with _replaced_conversion(names) as partitioner:
            edge = exir.to_edge_transform_and_lower(
                traced, partitioner=[partitioner], compile_config=config, constant_methods=strings
            )
        if outside := _undelegated(edge.exported_program()):
            raise ToolchainError(f"Core AI does not take {', '.join(outside)}")
        program = bytes(edge.to_executorch().buffer)
    warnings.warn(f"ExecuTorch {availability().version} {NO_RUNTIME}", ConversionWarning, stacklevel=3)
    return program


@contextmanager
def _replaced_conversion(outputs: list[str]) -> Iterator[Any]:
    """Within the context, ExecuTorch lowers to Core AI; yields a partitioner. For a process that does nothing else.

    `outputs` name the answers of the embedded program, whose image is `image`, as in an .aimodel.

    Left alone, ExecuTorch 1.5 would write the stack trace of every operator into the file, paths of this machine among
    them, and the time of day; and it calls `AIProgram.get_graph`, which coreai-core 1.0.0b3 has as `_get_graph`. Raises
    ToolchainError with an ExecuTorch whose delegates are not known here.
    """
    version = availability().version or ""
    if not re.match(rf"{re.escape(MADE_FOR)}(\.|$)", version) or not all(map(is_there, (*REPLACES, _PREPARE))):
        raise ToolchainError(f"Core AI delegates are made with ExecuTorch {MADE_FOR}, and {version} is installed")
    prepare = import_module(_PREPROCESS)._prepare_program_for_conversion
    program = import_module("coreai.authoring").AIProgram

    def converting(_: Any) -> Any:
        return lambda edge: to_program({MAIN: prepare(edge)}, outputs)

    def saving(_: Any) -> Any:
        return _save

    def graph_of(own: Any) -> Any:
        return own or program._get_graph

    with ExitStack() as stack:
        for place, wrap in zip(REPLACES, (converting, saving), strict=True):
            stack.enter_context(replaced(place, wrap))
        stack.enter_context(replaced("coreai.authoring:AIProgram.get_graph", graph_of))
        yield import_module("executorch.backends.apple.coreai").CoreAIPartitioner()


def _save(converted: Any, path: Path, oldest_system: None) -> None:
    converted.save_asset(path)
    make_metadata_stable(path)


def _undelegated(program: ExportedProgram) -> list[str]:
    """The operators of a lowered program that no delegate runs, by their names."""
    calls = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    return sorted(calls - {"executorch_call_delegate", str(getitem)})
