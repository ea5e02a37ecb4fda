"""A program for another Python: it loads a .tflite file with the interpreter of that Python's own package, and answers.

    python -I -S interpreter_program.py FOLDER MODULE FILE SIGNATURE OUTPUT...

FOLDER holds the packages, MODULE is that of the interpreter, SIGNATURE is empty for a file of one image size, and
OUTPUTs are names, in the order to answer in. It speaks
the frames of `ExternalRuntime`, but cannot import it: all that it needs is Python 3.9 and numpy.
"""

from __future__ import annotations

import importlib
import os
import select
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

HEADER = struct.Struct("<4sI")


def main(folder: str, module: str, path: str, signature: str, *outputs: str) -> None:
    frames, images = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)  # whatever a runtime prints goes to the log
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.path.insert(0, folder)
    import numpy as np

    def send(kind: bytes, payload: bytes = b"") -> None:
        frames.write(HEADER.pack(kind, len(payload)) + payload)
        frames.flush()

    try:
        interpreter = importlib.import_module(module).Interpreter(path, num_threads=1)
        interpreter.allocate_tensors()
        shape, answer = opened(interpreter, signature)
        send(b"REDY")
        while header := images.read(HEADER.size):
            content = images.read(HEADER.unpack(header)[1])
            found = answer(np.frombuffer(content, "<f4").reshape(shape))
            send(b"SCOR", b"".join(found[output].astype("<f4").tobytes() for output in outputs))
    except (ValueError, RuntimeError) as error:  # as an interpreter refuses a file, or an operator its operands
        send(b"FAIL", str(error).encode()[:4096])


def opened(interpreter: Any, signature: str) -> tuple[Any, Callable[[Any], dict[str, Any]]]:
    """The shape of the input, and what computes the outputs by name."""
    if signature:
        runner = interpreter.get_signature_runner(signature)
        ((name, image),) = runner.get_input_details().items()
        return image["shape"], lambda given: runner(**{name: given})
    (image,), outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(given: Any) -> dict[str, Any]:
        interpreter.set_tensor(image["index"], given)
        interpreter.invoke()
        return {each["name"]: interpreter.get_tensor(each["index"]) for each in outputs}

    return image["shape"], answer


def end_with_parent() -> None:
    """End with the parent, even amid a computation that never ends."""
    pipe = select.poll()
    pipe.register(0, 0)  # nothing but its hanging up
    pipe.poll()
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
