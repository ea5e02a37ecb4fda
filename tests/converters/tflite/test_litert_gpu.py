"""LiteRT on the GPU alone: whole or refused, and as near to PyTorch as on the CPU."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import sampled
from mobilevit_converters.tflite import converter
from mobilevit_converters.tflite.file.flatbuffer import read_model
from mobilevit_converters.tflite.file.hazards import BROADCASTING
from mobilevit_converters.tflite.passes.broadcast_ranks import broadcast_ranks
from mobilevit_converters.tflite.runtimes import vulkan
from mobilevit_converters.tflite.runtimes.gpu import LiteRTGPURuntime
from mobilevit_converters.tflite.runtimes.vulkan import Driver
from phone_files import SharedFiles
from tiny_networks import FAMILIES

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.parity import verify
from mobilevit_sdk.parity.runs import run_cases
from mobilevit_sdk.processes.child import run_in_child

runtime = LiteRTGPURuntime()
AVAILABLE, SWIFTSHADER = runtime.availability(), vulkan.find_swiftshader()
needs_driver = pytest.mark.skipif(not AVAILABLE, reason=f"litert-gpu: {AVAILABLE.reason}")


def answers(path: Path, *images: np.ndarray) -> np.ndarray:
    cases = [Case(str(i), image) for i, image in enumerate(images)]
    return run_in_child(run_cases, RuntimeRef("tflite", None, "litert-gpu", path), cases)


def artifacts_of(family: str, phone_files: SharedFiles) -> list[Artifact]:
    """The .tflite files of a family's tiny network; MobileViT's in float16 too."""
    precisions = ["fp32", "fp16"] if family == "mobilevit" else ["fp32"]
    return [phone_files.artifact("tflite", precision, family) for precision in precisions]


@pytest.fixture
def artifact(phone_files: SharedFiles) -> Artifact:
    return phone_files.artifact("tflite", "fp32")


# MobileViTv2's maps are 9x9 here and padded: with products of rank 3 the accelerator computed that wrongly.
@needs_driver
@pytest.mark.parametrize("family", sampled(FAMILIES, "mobilevit"))
def test_each_family_runs_wholly_on_the_gpu_and_answers_as_pytorch(family, phone_files):
    artifacts = artifacts_of(family, phone_files)
    verdicts = verify(artifacts, runtimes=["litert-gpu"])
    assert [(verdict.status, verdict.reason) for verdict in verdicts] == [("passed", None)] * len(artifacts)
    assert verdicts[0].agreement.sqnr_db.worst >= 90
    assert all(verdict.agreement.cases == 27 for verdict in verdicts)


@needs_driver
@pytest.mark.parametrize("family", sampled(FAMILIES, "vit"))
def test_a_network_with_matrices_in_8_bits_runs_wholly_on_the_gpu(family, phone_files):
    (verdict,) = verify([phone_files.artifact("tflite", "int8-dynamic", family)], runtimes=["litert-gpu"])
    assert (verdict.status, verdict.reason) == ("passed", None)
    assert verdict.agreement.sqnr_db.worst >= 15


@pytest.mark.parametrize("family", FAMILIES)
def test_operands_have_the_rank_of_the_answer(family, phone_files):
    """Where they have not, LiteRT's GPU accelerator takes the graph and computes something else."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    codes = {getattr(BuiltinOperator, name): name for name in (*BROADCASTING, "FULLY_CONNECTED")}
    found = set()
    for artifact in artifacts_of(family, phone_files):
        model = read_model(artifact.path)
        graph = model.Subgraphs(0)
        ranks = [graph.Tensors(i).ShapeLength() for i in range(graph.TensorsLength())]
        for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            name = codes.get(model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode())
            if name == "FULLY_CONNECTED":  # with weights in 8 bits, it refuses those that drop axes
                assert ranks[operator.Inputs(0)] == ranks[operator.Outputs(0)], graph.Tensors(
                    operator.Outputs(0)
                ).Name()
            elif name:
                operands = {ranks[i] for i in operator.InputsAsNumpy()} - {0, 1}  # numbers, vectors of channels
                assert operands <= {ranks[operator.Outputs(0)]}, graph.Tensors(operator.Outputs(0)).Name()
                found.add(name)
    assert found >= {"ADD", "BATCH_MATMUL"}


def test_a_constant_gets_its_rank_without_an_operator_and_a_tensor_by_a_reshape():
    litert_torch = pytest.importorskip("litert_torch")
    import torch
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools import flatbuffer_utils

    class Mixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.bmm(x, x.transpose(1, 2)).view(1, 3, 5, 5) + table

    table, x = torch.randn(1, 3, 5, 5), torch.randn(3, 5, 4)
    converted = litert_torch.convert(Mixed().eval(), (x,)).model_content()
    model = flatbuffer_utils.read_model_from_bytearray(converted)
    graph = model.subgraphs[0]
    (add,) = (o for o in graph.operators if len(o.inputs) == 2 and len(graph.tensors[o.outputs[0]].shape) == 4)
    product, constant = add.inputs
    assert [len(graph.tensors[i].shape) for i in add.inputs] == [3, 4]
    graph.tensors[constant].shape = np.array([3, 5, 5], np.int32)
    before = len(graph.operators)
    broadcast_ranks(model)
    assert [list(graph.tensors[i].shape) for i in add.inputs] == [[1, 3, 5, 5]] * 2
    assert len(graph.operators) == before + 1
    assert graph.operators[before - 1].inputs[0] == product
    interpreter = Interpreter(model_content=bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x.numpy())
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(answer, Mixed()(x), rtol=1e-5, atol=1e-5)


@needs_driver
def test_what_the_gpu_leaves_to_the_cpu_is_refused_and_named(tmp_path):
    litert_torch = pytest.importorskip("litert_torch")
    import torch

    class Rank5(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.reshape(1, 4, 2, 8, 3).permute(0, 2, 1, 3, 4).sigmoid().sum((1, 2, 3))

    path = tmp_path / "model.tflite"
    litert_torch.convert(Rank5().eval(), (torch.rand(1, 8, 8, 3),)).export(str(path))
    with pytest.raises(ArtifactError, match=r"does not run wholly on the GPU: \d of \d operators stay .* RESHAPE: .*5"):
        answers(path, np.zeros((3, 8, 8), np.uint8))


@needs_driver
def test_the_runtime_reads_pixels_in_their_order_and_any_memory_layout(artifact):
    path = artifact.path
    case = artifact.reference().cases[0]
    straight, strided, reversed_ = answers(path, case.image, np.asfortranarray(case.image), case.image[::-1].copy())
    np.testing.assert_array_equal(straight, strided)
    assert np.abs(straight - reversed_).max() > 1e-3


@needs_driver
def test_pixels_of_another_size_or_type_are_refused(artifact):
    path = artifact.path
    image = artifact.reference().cases[0].image
    for wrong in (image[:, :-1], image.astype(np.float32), image.transpose(1, 2, 0)):
        with pytest.raises(RequestError, match="takes uint8 of shape"):
            answers(path, wrong)


def test_a_graph_with_another_interface_is_refused_before_it_reaches_the_gpu(tmp_path):
    litert_torch = pytest.importorskip("litert_torch")
    import torch

    class Flat(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return tokens.sigmoid() * 2

    path = tmp_path / "model.tflite"
    litert_torch.convert(Flat().eval(), (torch.rand(1, 4),)).export(str(path))
    with pytest.raises(ArtifactError, match=r"one float32 \[1, H, W, 3\] .* \(1, 4\)"):
        runtime.load(path)


def test_a_damaged_interface_is_refused_before_it_reaches_the_gpu(artifact, tmp_path):
    from ai_edge_litert.tools import flatbuffer_utils

    for inputs in ([1 << 20], []):
        model = flatbuffer_utils.read_model(str(artifact.path))
        model.subgraphs[0].inputs = inputs
        path = tmp_path / "model.tflite"
        path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
        with pytest.raises(ArtifactError, match=r"is damaged|one float32 \[1, H, W, 3\]"):
            runtime.load(path)


@needs_driver
def test_a_driver_that_the_accelerator_does_not_take_is_no_fault_of_the_file(artifact):
    nothing = Driver("nothing", vulkan.LOADER if SWIFTSHADER is None else str(SWIFTSHADER / vulkan.LOADER), Path("/no"))
    with pytest.raises(ToolchainError, match=r"takes no device of nothing; .* doctor --install swiftshader"):
        run_in_child(load_on, nothing, artifact.path)


def load_on(driver: Driver, path: Path) -> None:
    from mobilevit_converters.tflite.runtimes import gpu as gpu_runtime

    gpu_runtime.find_driver = lambda: driver
    runtime.load(path)


def test_the_cpu_stays_the_first_runtime():
    assert converter.runtimes[0].name == "litert-cpu"


def test_availability_imports_no_runtime():
    program = (
        "import sys; from mobilevit_converters.tflite import converter;"
        "print([r.availability() for r in converter.runtimes]);"
        "print({'ai_edge_litert', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "set()"


def test_without_the_package_or_its_accelerator_the_reason_says_so(monkeypatch):
    monkeypatch.setattr("mobilevit_converters.tflite.runtimes.gpu.ACCELERATOR", "libNothing.so")
    assert "has no GPU accelerator for Vulkan" in runtime.availability().reason

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert "pip install 'mobilevit-sdk[tflite]'" in runtime.availability().reason
