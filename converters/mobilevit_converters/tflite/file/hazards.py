"""Operators of a .tflite file that run on every CPU, and that phones' GPUs are reported to refuse or to get wrong.

LiteRT's GPU accelerator lays tensors out as [batch, height, width, channels]; most of these are forms whose axes it
assigns to other places than TFLite does. It reports the whole graph as taken and answers something else, and no desktop
shows it. Each entry names the report, an issue of google-ai-edge/LiteRT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mobilevit_converters.tflite.file.schema import load_schema

# Whose operands TFLite broadcasts to one rank.
BROADCASTING = ("ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE", "BATCH_MATMUL")


@dataclass(frozen=True)
class Use:
    """One operator in the generated reader's terms."""

    name: str
    operator: Any
    inputs: tuple[int, ...]
    input_ranks: tuple[int, ...]


HAZARDS: dict[str, Callable[[Use], bool]] = {
    # 8619: attention with its heads folded into the batch. One product of a larger graph may be right.
    "BATCH_MATMUL of rank 3": lambda use: use.name == "BATCH_MATMUL" and max(use.input_ranks) == 3,
    # 8913: the options that transpose an operand are not read.
    "BATCH_MATMUL that transposes an operand": lambda use: use.name == "BATCH_MATMUL" and _transposes(use.operator),
    # 8980: numbers and vectors of channels are safe.
    "operands of different rank": lambda use: use.name in BROADCASTING and len({*use.input_ranks} - {0, 1}) > 1,
    "RELU_0_TO_1": lambda use: use.name == "RELU_0_TO_1",  # 8598
    "BROADCAST_TO": lambda use: use.name == "BROADCAST_TO",  # 9191: refused, and with it the graph
    "DIV of a tensor by itself": lambda use: use.name == "DIV" and len(set(use.inputs)) == 1,  # 9192: refused
}


def hazards_of(graph: Any, names: list[str]) -> dict[str, int]:
    """Count the hazards among the operators of a graph, which have these names; those that it has not are left out."""
    ranks = [graph.Tensors(i).ShapeLength() for i in range(graph.TensorsLength())]
    found: Counter[str] = Counter()
    for index, name in enumerate(names):
        operator = graph.Operators(index)
        given = operator.InputsAsNumpy() if operator.InputsLength() else ()
        inputs = tuple(int(i) for i in given if 0 <= i < len(ranks))  # without those missing, or beyond the graph
        if inputs:
            use = Use(name, operator, inputs, tuple(ranks[i] for i in inputs))
            found.update(hazard for hazard, applies in HAZARDS.items() if applies(use))
    return dict(found)


def _transposes(operator: Any) -> bool:
    table = operator.BuiltinOptions()
    if table is None:
        return False
    options = load_schema().BatchMatMulOptions()
    options.Init(table.Bytes, table.Pos)
    return bool(options.AdjX() or options.AdjY())
