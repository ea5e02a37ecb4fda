"""A .bpte file: a program with its test vectors, which ExecuTorch's runtime checks wherever it runs.

https://docs.pytorch.org/executorch/stable/bundled-io.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilevit_converters.executorch.file.program import FORWARD
from mobilevit_converters.executorch.inspect import inspect
from mobilevit_converters.executorch.runtimes.float16 import float16_refusal
from mobilevit_converters.executorch.toolchain import import_module, import_runtime
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.converter import TensorInfo


def bundle(
    path: Path,
    precision: str,
    images: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
    atol: float,
    bundled: Path,
) -> str | None:
    """See `formats.extras.WritesExtras.bundle`."""
    import torch

    devtools = import_module("executorch.devtools.bundled_program.core")
    config = import_module("executorch.devtools.bundled_program.config")
    serialize = import_module("executorch.devtools.bundled_program.serialize")
    suites = []
    found = inspect(path)
    methods = {each.name: (each.inputs[0], each.outputs) for each in found.entries or ()}
    for method, (given, outputs) in (methods or {FORWARD: (found.inputs[0], found.outputs)}).items():
        rows = [row for row, image in enumerate(images) if image.shape[1:] == given.shape[2:]]
        cases = [
            config.MethodTestCase(
                inputs=[torch.from_numpy(np.ascontiguousarray(images[row], np.float32)[None] / np.float32(255))],
                expected_outputs=[torch.from_numpy(each) for each in _split(answers[row], outputs)],
            )
            for row in rows
        ]
        suites.append(config.MethodTestSuite(method_name=method, test_cases=cases))
    program = devtools.BundledProgram(None, suites, pte_file_path=str(path))
    content: bytes = serialize.serialize_from_bundled_program_to_flatbuffer(program)
    bundled.write_bytes(content)
    refusal = float16_refusal() if precision == "fp16" else None
    if refusal is None:
        _run(bundled, content, {suite.method_name: len(suite.test_cases) for suite in suites}, atol)
    return refusal


def _split(row: np.ndarray, outputs: Sequence[TensorInfo]) -> list[np.ndarray]:
    """The outputs of a method, of which all values stand in a row."""
    ends = np.cumsum([int(np.prod(output.shape)) for output in outputs])
    parts = np.split(row.astype(np.float32), ends[:-1])
    return [part.reshape(output.shape) for part, output in zip(parts, outputs, strict=True)]


def _run(bundled: Path, content: bytes, cases: dict[str, int], atol: float) -> None:
    """Raise ToolchainError where the runtime does not answer its test vectors."""
    bindings = import_runtime("executorch.extension.pybindings.portable_lib")
    loaded = bindings._load_bundled_program_from_buffer(content)
    for method, count in cases.items():
        for case in range(count):
            try:
                loaded.verify_result_with_bundled_expected_output(method, case, 0.0, atol)
            except RuntimeError as error:
                raise ToolchainError(
                    f"test vector {case} of {method} in {bundled.name} is not answered within {atol:.2g}: "
                    f"{str(error).partition(chr(10))[0]}"
                ) from error
