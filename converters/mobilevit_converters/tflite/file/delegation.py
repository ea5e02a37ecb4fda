"""Which operators LiteRT hands to XNNPACK on the CPU. Native code reads the file, so this runs in a child process."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mobilevit_converters.tflite.file.schema import keep_signature, parse, serialize
from mobilevit_converters.tflite.toolchain import import_from


def xnnpack_delegation(path: Path, signature: str | None = None) -> tuple[int, dict[str, int]]:
    """How many delegates LiteRT's CPU runtime makes of a file, and the operators that it runs itself, with counts.

    Of the graph of `signature`, by default the first: the runtime tells of that alone, so the others are left out.
    The runtime keeps the nodes that a delegate replaced, and lists the delegate's inputs and outputs. The replaced
    nodes are those on the paths back from its outputs to its inputs.
    """
    litert = import_from("ai-edge-litert", "ai_edge_litert.interpreter")
    content = None
    if signature is not None:
        model = parse(path.read_bytes())
        keep_signature(model, signature)
        content = serialize(model)
    interpreter = litert.Interpreter(None if content else str(path), model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    own = [node for node in nodes if node["op_name"] != "DELEGATE"]
    producer = {tensor: node for node in own for tensor in node["outputs"]}
    replaced: set[int] = set()
    for delegate in delegates:
        reached, given = list(delegate["outputs"]), set(delegate["inputs"])
        while reached:
            tensor = reached.pop()
            if tensor in given or tensor not in producer or producer[tensor]["index"] in replaced:
                continue
            replaced.add(producer[tensor]["index"])
            reached.extend(producer[tensor]["inputs"])
    outside = Counter(node["op_name"] for node in own if node["index"] not in replaced)
    return len(delegates), dict(sorted(outside.items()))
