"""A desktop's LiteRT or ExecuTorch behind the app's engine interface, for tests: it loads a file and answers images.

    python desktop_engine.py litert|executorch FILE [ENTRY...]

ENTRYs are the names of the entries of a file of several input sizes. It needs the package `ai-edge-litert` or
`executorch`. Frames go over standard input and output: four letters, the payload's length in bytes as a little-endian
uint32, and the payload. From here comes `REDY` with the package's version, then a `SCOR` with float32 scores for each
`IMAG` with float32 numbers: the place of an entry, 0 where there is one, and pixels as that takes them; or `FAIL` with
the reason in UTF-8. Standard error is its log. It ends when its standard input does.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np

HEADER = struct.Struct("<4sI")


def main(runtime: str, path: str, *entries: str) -> None:
    """Answer until standard input ends."""
    frames, images = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)  # whatever a runtime prints goes to the log

    def send(kind: bytes, payload: bytes = b"") -> None:
        frames.write(HEADER.pack(kind, len(payload)) + payload)
        frames.flush()

    try:
        package, load = RUNTIMES[runtime]
        run = load(path, entries)
        send(b"REDY", version(package).encode())
        while header := images.read(HEADER.size):
            values = np.frombuffer(images.read(HEADER.unpack(header)[1]), "<f4")
            scores = run(int(values[0]), values[1:])
            send(b"SCOR", scores.astype("<f4").tobytes())
    except Exception as error:
        send(b"FAIL", f"{type(error).__name__}: {error}".encode()[:4096])


def load_litert(path: str, entries: Sequence[str]) -> Callable[[int, np.ndarray], np.ndarray]:
    """LiteRT's interpreter with XNNPACK, on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    runners = [interpreter.get_signature_runner(entry) for entry in entries]
    if runners:

        def run_entry(place: int, values: np.ndarray) -> np.ndarray:
            ((name, image),) = runners[place].get_input_details().items()
            (answer,) = runners[place](**{name: values.reshape(image["shape"])}).values()
            return np.asarray(answer).reshape(-1)

        return run_entry
    (image,), outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(place: int, values: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(image["index"], values.reshape(image["shape"]))
        interpreter.invoke()
        return np.concatenate([interpreter.get_tensor(output["index"]).reshape(-1) for output in outputs])

    return run


def load_executorch(path: str, entries: Sequence[str]) -> Callable[[int, np.ndarray], np.ndarray]:
    """ExecuTorch's portable runtime with XNNPACK."""
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    methods = [program.load_method(name) for name in entries or ("forward",)]

    def run(place: int, values: np.ndarray) -> np.ndarray:
        shape = methods[place].metadata.input_tensor_meta(0).sizes()
        outputs = methods[place].execute([torch.from_numpy(values.copy()).reshape(shape)])
        return np.concatenate([output.numpy().reshape(-1) for output in outputs])

    return run


RUNTIMES = {"litert": ("ai-edge-litert", load_litert), "executorch": ("executorch", load_executorch)}

if __name__ == "__main__":
    main(*sys.argv[1:])
