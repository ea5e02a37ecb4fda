"""The public schema of .tflite files: models as objects that can be edited, and the names of its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from mobilevit_converters.tflite.toolchain import import_from

SIGNATURE = "serving_default"  # of the graph that takes the image; of several image sizes, the first


def load_schema() -> Any:
    """The module that was generated from the schema. Raises ToolchainError where ai-edge-litert is not installed."""
    return import_from("ai-edge-litert", "ai_edge_litert.schema_py_generated")


def parse(content: bytes) -> Any:
    """A model as an object, `ModelT` of the schema, which can be edited."""
    return import_from("ai-edge-litert", "ai_edge_litert.tools.flatbuffer_utils").read_model_from_bytearray(content)


def serialize(model: Any) -> bytes:
    """The file of a `ModelT`."""
    flatbuffer_utils = import_from("ai-edge-litert", "ai_edge_litert.tools.flatbuffer_utils")
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def keep_signature(model: Any, key: str) -> None:
    """Make the graph of one signature the only one of a `ModelT`, in place; the constants stay."""
    signature = next(each for each in model.signatureDefs if _text(each.signatureKey) == key)
    model.subgraphs = [model.subgraphs[signature.subgraphIndex]]
    signature.subgraphIndex = 0
    model.signatureDefs = [signature]


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode()


@cache
def tensor_types() -> Mapping[int, str]:
    """Name by number, such as 0 -> "FLOAT32"."""
    return _names(load_schema().TensorType)


def holds_float16(model: Any) -> bool:
    """Whether the first graph of `model`, the root table of a file, has float16 weights."""
    graph = model.Subgraphs(0)
    return any(tensor_types().get(graph.Tensors(i).Type()) == "FLOAT16" for i in range(graph.TensorsLength()))


@cache
def _builtin_operators() -> Mapping[int, str]:
    return _names(load_schema().BuiltinOperator)


def builtin_name(code: int, deprecated_code: int) -> str:
    """The name of a built-in operator, such as "CONV_2D", from the two fields of its code.

    Numbers up to 127 stand in the deprecated field, newer ones in the other. Raises KeyError for unknown ones.
    """
    return _builtin_operators()[max(code, deprecated_code)]


def operator_name(model: Any, operator: Any) -> str:
    """That of an `OperatorT` of a `ModelT`."""
    code = model.operatorCodes[operator.opcodeIndex]
    return builtin_name(code.builtinCode, code.deprecatedBuiltinCode)


def opcode_index(model: Any, name: str, version: int = 1) -> int:
    """Where `model` lists the built-in operator `name`, of at least that `version`; appended where it is missing."""
    for index, code in enumerate(model.operatorCodes):
        if builtin_name(code.builtinCode, code.deprecatedBuiltinCode) == name:
            code.version = max(code.version, version)
            return index
    schema = load_schema()
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = version
    return append(model.operatorCodes, code)


def append(items: list[Any], item: Any) -> int:
    """Append to one of a model's lists; returns the index, by which the rest of the model refers to it."""
    items.append(item)
    return len(items) - 1


def is_constant(model: Any, tensor: int) -> bool:
    """Whether a tensor of the first graph holds values of its own; -1 stands for one that is missing."""
    return tensor >= 0 and model.buffers[model.subgraphs[0].tensors[tensor].buffer].data is not None


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}
