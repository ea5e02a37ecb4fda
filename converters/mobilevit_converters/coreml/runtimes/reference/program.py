"""Evaluation of a MIL program, operator by operator, in the precision that the program states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobilevit_converters.coreml.file.package import Package, load_program, operations
from mobilevit_converters.coreml.runtimes.reference.operators import OPERATORS
from mobilevit_converters.coreml.runtimes.reference.operators.fp16_accumulation import FP16_ACCUMULATION
from mobilevit_sdk.errors import ToolchainError

_DTYPES = {
    "fp16": torch.float16,
    "fp32": torch.float32,
    "int32": torch.int32,
    "bool": torch.bool,
    # Of weights that are kept small; a byte holds one value.
    **dict.fromkeys(("int4", "int8"), torch.int8),
    **dict.fromkeys(("uint1", "uint2", "uint3", "uint4", "uint6", "uint8"), torch.uint8),
}


@dataclass(frozen=True)
class _Output:
    name: str
    dtype: torch.dtype | None  # None for the label and the dictionary of a classifier
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Step:
    """One operator: its kind, its arguments by the names of values (a tuple for a list of them), its results."""

    kind: str
    arguments: dict[str, str | tuple[str, ...]]
    outputs: tuple[_Output, ...]


class ReferenceFunction:
    """A function of a MIL program that coremltools holds in memory.

    Values travel as float32; those that the program states as float16 are rounded to float16 when an operator yields
    them, so each operator takes exact float16 inputs, computes in float32 and rounds once. With
    `fp16_accumulation`, those that yield float16 also round each partial sum of theirs.
    """

    def __init__(self, function: Any, path: Path, *, fp16_accumulation: bool = False) -> None:
        """Take the function's operators and constants; `path` stands in errors."""
        self.path = path
        self._of_half = OPERATORS | FP16_ACCUMULATION if fp16_accumulation else OPERATORS
        self.inputs = {name: _output(var) for name, var in function.inputs.items()}
        self.output_names = [var.name for var in function.outputs]
        self._constants: dict[str, Any] = {}
        self._steps: list[_Step] = []
        for op in function.operations:
            if op.op_type == "const":
                self._constants[op.outputs[0].name] = _constant(op.outputs[0].val)
            else:
                arguments = {name: _names(value) for name, value in op.inputs.items() if value is not None}
                step = _Step(op.op_type, arguments, tuple(map(_output, op.outputs)))
                if step.kind.startswith("constexpr_"):
                    self._evaluate(step, self._constants)
                else:
                    self._steps.append(step)

    @property
    def results(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Kind of operator and shape of every floating-point result, by its name and in the order of execution."""
        return {
            output.name: (step.kind, output.shape)
            for step in self._steps
            for output in step.outputs
            if output.dtype is not None and output.dtype.is_floating_point
        }

    @torch.inference_mode()
    def __call__(
        self, inputs: dict[str, Tensor], on_value: Callable[[str, Any], None] = lambda name, value: None
    ) -> dict[str, Any]:
        """Evaluate for inputs by name. Returns the outputs by name; a float16 output comes widened to float32.

        `on_value` gets every result by its name, in the order of execution.
        """
        values = dict(self._constants)
        for name, stated in self.inputs.items():
            values[name] = self._as_stated(inputs[name], stated, "input")
        for step in self._steps:
            self._evaluate(step, values)
            for stated in step.outputs:
                on_value(stated.name, values[stated.name])
        return {name: values[name] for name in self.output_names}

    def _evaluate(self, step: _Step, values: dict[str, Any]) -> None:
        """Add the results of a step to `values`, which has its arguments."""
        arguments = {
            name: tuple(values[n] for n in names) if isinstance(names, tuple) else values[names]
            for name, names in step.arguments.items()
        }
        try:
            operators = self._of_half if step.outputs[0].dtype == torch.float16 else OPERATORS
            results = operators[step.kind](**arguments)
        except Exception as error:
            place = f"{step.kind} ({step.outputs[0].name})"
            raise ToolchainError(f"{self.path}: coreml-reference cannot evaluate {place}: {error}") from error
        for stated, result in zip(step.outputs, results if isinstance(results, tuple) else (results,), strict=True):
            values[stated.name] = self._as_stated(result, stated, step.kind)

    def _as_stated(self, value: Any, stated: _Output, kind: str) -> Any:
        """`value` rounded to the type that the program states. Raises ToolchainError where the shape is another."""
        if stated.dtype is None:
            return value
        if tuple(value.shape) != stated.shape:
            found = f"has shape {tuple(value.shape)} where the program states {stated.shape}"
            raise ToolchainError(f"{self.path}: {kind} ({stated.name}) {found}")
        return _widen(value.to(stated.dtype))


class ReferenceProgram(ReferenceFunction):
    """A function of a package."""

    def __init__(self, package: Package, *, fp16_accumulation: bool = False) -> None:
        """Read program and weights. Raises ToolchainError for unknown operators, ArtifactError for a damaged file."""
        for operation in operations(package.block):
            if operation.type != "const" and operation.type not in OPERATORS:
                place = ", ".join(output.name for output in operation.outputs)
                unknown = f"coreml-reference does not know operator {operation.type} ({place})"
                raise ToolchainError(f"{package.path}: {unknown}")
        super().__init__(
            load_program(package).functions[package.function], package.path, fp16_accumulation=fp16_accumulation
        )


def _widen(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value


def _output(var: Any) -> _Output:
    from coremltools.converters.mil.mil import types

    if types.is_dict(var.sym_type) or types.is_str(var.sym_type):
        return _Output(var.name, None, ())
    dtype = types.builtin_to_string(var.dtype)
    if dtype not in _DTYPES:
        raise ToolchainError(f"coreml-reference does not know the type {dtype} ({var.name})")
    return _Output(var.name, _DTYPES[dtype], tuple(int(size) for size in var.shape))


def _names(value: Any) -> str | tuple[str, ...]:
    return tuple(var.name for var in value) if isinstance(value, list | tuple) else str(value.name)


def _constant(value: Any) -> Any:
    """Arrays as tensors; scalars, strings and lists of strings as Python's own."""
    if isinstance(value, np.ndarray) and value.ndim:
        return _widen(torch.from_numpy(value.copy()))
    if isinstance(value, np.ndarray | np.generic):
        return value.item()
    return value
