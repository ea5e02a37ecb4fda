"""A model loaded by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilevit_converters.onnx.toolchain import import_from
from mobilevit_sdk.errors import ArtifactError


def open_session(path: Path, content: bytes, threads: int) -> Any:
    """An onnxruntime.InferenceSession of the model in `content`, read from `path`. Raises ArtifactError."""
    onnxruntime = import_from("onnxruntime", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; it would print warnings about its own optimizations
    # Without it, sums of two products saturate at 16 bits on x86 processors that have AVX2 but not VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own errors derive from nothing closer
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"onnxruntime cannot load {path}: {reason}") from error
