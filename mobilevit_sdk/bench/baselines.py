"""Baselines: the same checkpoint in each runtime's own documented way, without this SDK.

All of them take the reference form of the network, as it was trained, and normalized pixels: preprocessing stays
outside of the file and of what is timed. Their files run in the same runtimes as the SDK's own.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_sdk.bench.candidates import Candidate, Question
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import load_weights
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment.phone_graph import Answers
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.formats.runtime import Availability, Session, as_row
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.formats.toolchain import import_optional, installed
from mobilevit_sdk.models.backbone import as_rows
from mobilevit_sdk.processes.child import run_in_child
from mobilevit_sdk.processes.process import peak_memory_bytes
from mobilevit_sdk.spec import ModelSpec, Preprocessing


@dataclass(frozen=True)
class StockRuntime:
    """A way to run a checkpoint without the SDK: `export` writes the file that `open_session` loads.

    `export(model, sample, file)` and `open_session(file, spec, threads)` run in child processes; without an
    export, the file is the checkpoint.
    """

    name: str
    description: str
    availability: Callable[[], Availability]
    open_session: Callable[[Path, ModelSpec, int], Session]
    suffix: str = ".safetensors"
    export: Callable[[nn.Module, Tensor, Path], None] | None = None


@dataclass(frozen=True)
class Prepared:
    """A baseline's file, and what making it took: seconds, and peak memory in bytes; 0 without an export."""

    baseline: StockRuntime
    checkpoint: Checkpoint
    file: Path
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    def candidate(self, question: Question) -> Candidate:
        """The baseline, ready to be measured."""
        open_session = partial(self.baseline.open_session, self.file, self.checkpoint.spec)
        return Candidate(self.checkpoint.source, self.baseline.name, question, open_session)


def prepare(baseline: StockRuntime, checkpoint: Checkpoint, folder: Path) -> Prepared:
    """Write the baseline's file to `folder`. Raises ToolchainError where it is not installed or fails."""
    available = baseline.availability()
    if not available:
        raise ToolchainError(f"{baseline.name} cannot run here: {available.reason}")
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    save_checkpoint(checkpoint.model, checkpoint.spec, weights)
    if baseline.export is None:
        return Prepared(baseline, checkpoint, weights)
    file = folder / f"{baseline.name}{baseline.suffix}"
    started = time.monotonic()
    peak = run_in_child(export_file, baseline.name, checkpoint.spec, weights, file)
    return Prepared(baseline, checkpoint, file, round(time.monotonic() - started, 2), peak)


def export_file(name: str, spec: ModelSpec, weights: Path, file: Path) -> int:
    """In a child process: write the file of the baseline `name`, and return the peak memory in bytes."""
    export = BASELINES[name].export
    assert export is not None
    network = in_one_row(load_weights(weights, spec), spec)
    export(network, torch.zeros(1, 3, *spec.preprocessing.image_size), file)
    return peak_memory_bytes()


def in_one_row(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """The network where it has one output, else with all of them in one: a stock file does not say which is which."""
    return network if len(spec.outputs) == 1 else _OneRow(network)


class _OneRow(nn.Module):
    """Answers side by side. Shapes: those of the network -> [B, values]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return as_rows(self.network(x))


def _export_executorch(model: nn.Module, sample: Tensor, file: Path) -> None:
    exir = import_optional("executorch", "executorch.exir", extra="executorch")
    xnnpack = import_optional(
        "executorch", "executorch.backends.xnnpack.partition.xnnpack_partitioner", extra="executorch"
    )
    exported = torch.export.export(model, (sample,))
    edge = exir.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
    file.write_bytes(edge.to_executorch().buffer)


def _export_tflite(model: nn.Module, sample: Tensor, file: Path) -> None:
    litert_torch = import_optional("litert-torch", "litert_torch", extra="tflite")
    litert_torch.convert(model, (sample,)).export(str(file))


def _export_onnx(model: nn.Module, sample: Tensor, file: Path) -> None:
    torch.onnx.export(model, (sample,), file)


def _open_executorch(file: Path, spec: ModelSpec, threads: int) -> Session:
    session = RuntimeRef("executorch", "xnnpack", "executorch", file).session(threads)
    return dataclasses.replace(session, to_input=lambda image: _normalized(image, spec.preprocessing))


def _open_tflite(file: Path, spec: ModelSpec, threads: int) -> Session:
    session = RuntimeRef("tflite", None, "litert-cpu", file).session(threads)
    return dataclasses.replace(session, to_input=lambda image: _normalized(image, spec.preprocessing).numpy())


def _open_onnx(file: Path, spec: ModelSpec, threads: int) -> Session:
    onnxruntime = import_optional("onnxruntime", "onnxruntime", extra="bench")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    inference = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in inference.get_inputs())

    def run(given: np.ndarray) -> np.ndarray:
        return as_row(inference.run(None, {name: given}))

    return Session(lambda image: _normalized(image, spec.preprocessing).numpy(), run)


def _open_pytorch(compiled: bool, file: Path, spec: ModelSpec, threads: int) -> Session:
    torch.set_num_threads(threads)
    model = load_weights(file, spec)
    answer = torch.compile(model) if compiled else model

    @torch.inference_mode()
    def run(given: Tensor) -> np.ndarray:
        found: Answers = answer(given)
        return as_row([each.numpy() for each in (found if isinstance(found, tuple) else (found,))])

    return Session(lambda image: _normalized(image, spec.preprocessing), run)


def _normalized(image: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """RGB uint8 [3, H, W] -> the input of the reference form, float32 [1, 3, H, W]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image))
    return to_model_input(pixels[None], preprocessing).contiguous()


def _needs(*distributions: str, extra: str) -> Availability:
    found = [installed(distribution, extra=extra) for distribution in distributions]
    return next((each for each in found if not each), found[0])


def _compiler() -> Availability:
    """torch.compile writes C++ and compiles it here."""
    name = os.environ.get("CXX", "g++")
    if shutil.which(name) is None:
        return Availability(None, f"torch.compile needs the C++ compiler {name}; install it, or name one in CXX")
    return Availability(torch.__version__)


BASELINES = {
    baseline.name: baseline
    for baseline in (
        StockRuntime(
            "pytorch",
            "PyTorch, eager, in inference mode",
            lambda: Availability(torch.__version__),
            partial(_open_pytorch, False),
        ),
        StockRuntime(
            "pytorch-compile", "torch.compile with its default backend", _compiler, partial(_open_pytorch, True)
        ),
        StockRuntime(
            "onnxruntime",
            "torch.onnx.export and onnxruntime's CPU provider",
            partial(_needs, "onnxruntime", "onnx", "onnxscript", extra="bench"),
            _open_onnx,
            ".onnx",
            _export_onnx,
        ),
        StockRuntime(
            "executorch-stock",
            "torch.export, to_edge_transform_and_lower with XnnpackPartitioner",
            lambda: find_converter("executorch").availability(),
            _open_executorch,
            ".pte",
            _export_executorch,
        ),
        StockRuntime(
            "tflite-stock",
            "litert_torch.convert",
            lambda: find_converter("tflite").availability(),
            _open_tflite,
            ".tflite",
            _export_tflite,
        ),
    )
}
