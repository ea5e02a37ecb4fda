"""LiteRT on the CPU, with XNNPACK and without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilevit_converters.tflite.file.associated_files import read_spec
from mobilevit_converters.tflite.file.entries import entries_of
from mobilevit_converters.tflite.file.flatbuffer import read_model
from mobilevit_converters.tflite.passes.interface import Interface
from mobilevit_converters.tflite.toolchain import availability, import_from
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.runtime import (
    Availability,
    LoadedArtifact,
    Session,
    Size,
    as_row,
    output_order,
    session_by_size,
)
from mobilevit_sdk.spec import ModelSpec

if TYPE_CHECKING:
    from mobilevit_sdk.formats.taps import TappedArtifact


class LiteRTRuntime:
    """LiteRT's interpreter, which delegates to XNNPACK what XNNPACK takes; on one thread unless more are asked for."""

    name = "litert-cpu"
    format = "tflite"

    def availability(self) -> Availability:
        return availability("ai-edge-litert")

    def load(self, path: Path) -> LoadedArtifact:
        return self.session(path, threads=1)

    def session(self, path: Path, threads: int) -> Session:
        return _session(path, threads, "AUTO")

    def tap(self, path: Path, image_size: Size = None) -> TappedArtifact:
        from mobilevit_converters.tflite.runtimes.taps import tap

        return tap(path, "AUTO", image_size)


class LiteRTBuiltinRuntime:
    """LiteRT's interpreter with only its own kernels, as in an app that turns XNNPACK off.

    Not a TimedRuntime: nobody turns XNNPACK off for speed.
    """

    name = "litert-cpu-builtin"
    format = "tflite"

    def availability(self) -> Availability:
        return availability("ai-edge-litert")

    def load(self, path: Path) -> LoadedArtifact:
        return _session(path, 1, "BUILTIN_WITHOUT_DEFAULT_DELEGATES")

    def tap(self, path: Path, image_size: Size = None) -> TappedArtifact:
        from mobilevit_converters.tflite.runtimes.taps import tap

        return tap(path, "BUILTIN_WITHOUT_DEFAULT_DELEGATES", image_size)


def _session(path: Path, threads: int, kernels: str) -> Session:
    """`kernels` is a name in LiteRT's OpResolverType."""
    model, spec = read_model(path), read_spec(path, required=False)  # refused if incomplete, before native code sees it
    entries = entries_of(path, model, spec)
    litert = import_from("ai-edge-litert", "ai_edge_litert.interpreter")
    resolver: Any = getattr(litert.OpResolverType, kernels)
    try:
        interpreter = litert.Interpreter(str(path), num_threads=threads, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        if len(entries) > 1:
            return session_by_size(
                entries, lambda size: _signature_session(path, interpreter, entries[size].name, spec), path.name
            )
        (image,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"LiteRT cannot load {path}: {error}") from error

    order = output_order(spec, [output["name"] for output in outputs], path)
    answers = [outputs[i]["index"] for i in order]

    def to_input(pixels: np.ndarray) -> np.ndarray:
        _, height, width, _ = image["shape"].tolist()
        return Interface(path.name, height, width).to_input(pixels)

    def run(given: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(image["index"], given)
        interpreter.invoke()
        return as_row(interpreter.get_tensor(index) for index in answers)

    return Session(to_input, run)


def _signature_session(path: Path, interpreter: Any, key: str, spec: ModelSpec | None) -> Session:
    """Of one of a file's signatures; all share the interpreter and its weights."""
    try:
        runner = interpreter.get_signature_runner(key)
        ((name, image),) = runner.get_input_details().items()
        outputs = list(runner.get_output_details())
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"LiteRT cannot load {key} of {path}: {error}") from error
    answers = [outputs[i] for i in output_order(spec, outputs, path)]
    _, height, width, _ = image["shape"].tolist()

    def run(given: np.ndarray) -> np.ndarray:
        found = runner(**{name: given})
        return as_row(found[answer] for answer in answers)

    return Session(Interface(path.name, height, width).to_input, run)
