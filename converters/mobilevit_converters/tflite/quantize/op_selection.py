"""Which operators of a .tflite graph compute in 8 bits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from mobilevit_converters.tflite.file.operators import MOVERS, Operator
from mobilevit_sdk.formats.quantization import QuantizationRecipe

KEEPING_RANGE = (*MOVERS, "PAD", "RESIZE_BILINEAR")  # their outputs lie in the range of their inputs
PASSING = (*KEEPING_RANGE, "CONCATENATION")


def integer_operators(operators: Sequence[Operator], outputs: Collection[int], recipe: QuantizationRecipe) -> set[int]:
    """The indices of the operators that compute in 8 bits; `outputs` are the graph's.

    The recipe names the kinds that do. An operator that only passes values on follows its neighbors, so that nothing is
    unpacked for it. The last operator stays float: 256 levels over all scores would tie classes.
    """
    free = {
        index
        for index, operator in enumerate(operators)
        if not recipe.keeps_float(operator.module)
        and not set(outputs) & set(operator.outputs)
        and (operator.kind in recipe.operators or operator.code in MOVERS)
    }
    passing = {index for index in free if operators[index].code in PASSING}
    chosen = free - passing
    producer = {tensor: index for index, operator in enumerate(operators) for tensor in operator.outputs}
    readers: dict[int, set[int]] = defaultdict(set)
    for index, operator in enumerate(operators):
        for tensor in operator.inputs:
            readers[tensor].add(index)

    def follows(index: int) -> bool:
        operator = operators[index]
        givers = {producer[tensor] for tensor in operator.inputs if tensor in producer}
        if operator.code == "CONCATENATION":
            return givers <= chosen
        takers = set().union(*(readers[tensor] for tensor in operator.outputs))
        return bool((givers | takers) & chosen)

    while following := {index for index in passing - chosen if follows(index)}:
        chosen |= following
    return chosen
