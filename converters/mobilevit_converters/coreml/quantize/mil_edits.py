"""Edits of a MIL program that the quantization of weights and of activations share."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from mobilevit_sdk.formats.quantization import QuantizationRecipe


class KeptFloat:
    """Which operators a recipe leaves in floating point."""

    def __init__(self, recipe: QuantizationRecipe, wrappers: int) -> None:
        self._recipe, self._wrappers = recipe, wrappers

    def has(self, op: Any, kind: str | None = None) -> bool:
        """Whether the operator stays as it is, because of its module or of its `kind` in the recipe."""
        from coremltools.converters.mil.mil.scope import ScopeSource

        scope = op.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, [])  # its last part names a value
        path = scope[self._wrappers - 1 : -1]
        module = ".".join(path[1:] if path[:1] == ["network"] else path)
        return (kind is not None and kind not in self._recipe.operators) or self._recipe.keeps_float(module)


def first(ops: Iterable[Any], order: dict[Any, int]) -> Any:
    return min(ops, key=order.__getitem__)


def new_operators(before: Any) -> ExitStack:
    """Operators made within the context come before `before`, and belong to its module."""
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil.scope import ScopeInfo, ScopeSource

    stack = ExitStack()
    sources = (ScopeSource.TORCHSCRIPT_MODULE_NAME, ScopeSource.TORCHSCRIPT_MODULE_TYPE)
    stack.enter_context(mb.scope(*(ScopeInfo(s, list(before.scopes[s])) for s in sources if s in before.scopes)))
    stack.enter_context(mb.set_before_op(before))
    return stack


def replace_input(op: Any, old: Any, new: Any) -> None:
    """Let `op` read `new` wherever it reads `old`, alone or in a list."""
    changed = {}
    for name, given in op.inputs.items():
        if given is old:
            changed[name] = new
        elif isinstance(given, list | tuple) and any(var is old for var in given):
            changed[name] = tuple(new if var is old else var for var in given)
    op.set_inputs(no_check_var_types=True, **changed)
