"""The .pte files for iOS: one Core ML delegate, whose program is read out of the file and compared with PyTorch."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from damage import anywhere, assert_harmless, assert_inspected_or_refused, damaged_copies, fates
from helpers import randomize, tiny_model
from mobilevit_converters.executorch import converter as xnnpack
from mobilevit_converters.executorch.file.coreml_delegate import read_coreml_delegate
from mobilevit_converters.executorch.file.program import COREML, Chain, Delegate, Instruction, ProgramFile, read_program
from mobilevit_converters.executorch.runtimes import coreml as coreml_runtime
from phone_files import PhoneFile, SharedFiles, convert_model, mobilevit_xxs
from torch import nn

from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.formats.converter import TensorInfo
from mobilevit_sdk.parity.metrics import Agreement, compare
from mobilevit_sdk.spec import ModelSpec, Preprocessing

pytest.importorskip("executorch.exir")
pytest.importorskip("coremltools")

SIZE = 36  # the attention stage sees 9x9, no multiple of the patch, and resizes
converter = xnnpack.backends["coreml"]
DELEGATE, REFERENCE = converter.runtimes
FLOAT16 = 10  # MIL_pb2.DataType.FLOAT16


@pytest.fixture(scope="module")
def files(phone_files: SharedFiles) -> dict[str, PhoneFile]:
    """The tiny network in both precisions. Read only."""
    return {precision: phone_files.file("executorch", precision, backend="coreml") for precision in ("fp16", "fp32")}


@pytest.fixture(scope="module")
def fp16(files: dict[str, PhoneFile]) -> PhoneFile:
    return files["fp16"]


def agreement(file: PhoneFile) -> Agreement:
    answer = REFERENCE.load(file.path)
    return compare(file.reference.answers, np.stack([answer(case.as_passed()) for case in file.reference.cases]))


def payload(path: Path) -> bytes:
    file = read_program(path)
    (delegate,) = file.method("forward").delegates
    return file.delegate_data(delegate)


def embedded(path: Path):
    """The embedded program: the description of its interface, and its operations."""
    from mobilevit_converters.coreml.file.package import operations

    with read_coreml_delegate(path, payload(path)).package() as package:
        return package.model, [o for o in operations(package.block) if o.type != "const"]


def test_fp32_has_no_float16_and_fp16_computes_in_it(files):
    def types(precision):
        _, operations = embedded(files[precision].path)
        return {o.type: {v.type.tensorType.dataType for v in o.outputs} for o in operations}

    assert not any(FLOAT16 in kinds for kinds in types("fp32").values())
    assert all(types("fp16")[kind] == {FLOAT16} for kind in ("conv", "linear", "matmul", "layer_norm", "silu"))
    assert agreement(files["fp16"]).sqnr_db.worst < 90 < agreement(files["fp32"]).sqnr_db.worst


def test_it_is_one_coreml_delegate_with_nothing_outside(fp16: PhoneFile):
    found = converter.inspect(fp16.path)
    assert (found.backend, found.delegates, found.undelegated_ops, found.max_rank) == ("coreml", 1, {}, 4)
    assert found.operators["layer_norm"] == 5  # two for each of two transformer blocks, one behind them
    assert found.operators["upsample_bilinear"] == 2
    assert "const" not in found.operators
    assert "gather" not in found.operators
    assert xnnpack.inspect(fp16.path) == found  # the file says it, whoever asks


def test_the_program_takes_floats_and_no_image(fp16: PhoneFile):
    """ExecuTorch's delegate hands over arrays (executorch#10179), so the scale to [0, 1] is the app's."""
    model, _ = embedded(fp16.path)
    (image,) = model.description.input
    assert image.type.WhichOneof("Type") == "multiArrayType"
    assert list(image.type.multiArrayType.shape) == [1, 3, SIZE, SIZE]
    assert image.type.multiArrayType.dataType == image.type.multiArrayType.FLOAT32
    assert model.specificationVersion == 7  # iOS 16
    found = converter.inspect(fp16.path)
    assert found.inputs == (TensorInfo(name="input_0", shape=(1, 3, SIZE, SIZE), dtype="float32"),)
    assert found.outputs == (TensorInfo(name="output_0", shape=(1, 5), dtype="float32"),)


def test_labels_are_a_method_that_an_app_can_call(fp16: PhoneFile):
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(fp16.path)
    assert program.method_names == {"forward", "labels", "model_spec"}
    assert program.load_method("labels").execute([]) == ["\n".join(fp16.spec.labels or ())]


def test_the_file_carries_no_debug_information(fp16: PhoneFile):
    found = set(read_coreml_delegate(fp16.path, payload(fp16.path)).files)
    inside = "model.mlpackage/Data/com.apple.CoreML"
    package = {"model.mlpackage/Manifest.json", f"{inside}/model.mlmodel", f"{inside}/weights/weight.bin"}
    assert found == {"metadata.json", *package}


# What is around the delegate.


def _step(**changes):
    return lambda plan: msgspec.structs.replace(
        plan, chains=[Chain([msgspec.structs.replace(plan.chains[0].instructions[0], **changes)])]
    )


def _value(index, **changes):
    def change(plan):
        values = list(plan.values)
        values[index] = msgspec.structs.replace(values[index], val={**values[index].val, **changes})
        return msgspec.structs.replace(plan, values=values)

    return change


AROUND = {
    "a kernel": lambda plan: msgspec.structs.replace(
        plan, chains=[Chain([Instruction("KernelCall", {"op_index": 0, "args": [0, 1]})])]
    ),
    "the delegate twice": lambda plan: msgspec.structs.replace(plan, chains=plan.chains * 2),
    "nothing": lambda plan: msgspec.structs.replace(plan, chains=[]),
    "another backend": lambda plan: msgspec.structs.replace(
        plan, delegates=[Delegate("XnnpackBackend", plan.delegates[0].processed)]
    ),
    "a delegate that is not there": _step(instr_args={"delegate_index": 7, "args": [0, 1]}),
    "arguments in another order": _step(instr_args={"delegate_index": 0, "args": [1, 0]}),
    "an answer that is the image": lambda plan: msgspec.structs.replace(plan, outputs=[0]),
    "two images": lambda plan: msgspec.structs.replace(plan, inputs=[0, 0]),
    "an image that is no tensor": lambda plan: msgspec.structs.replace(plan, inputs=[99]),
    "channels last": _value(0, dim_order=[0, 2, 3, 1]),
    "bytes": _value(0, scalar_type="BYTE"),
    "two scores of one": _value(1, sizes=[2, 5]),
    "an image of another size": _value(0, sizes=[1, 3, 8, 8]),
    "more classes than there are": _value(1, sizes=[1, 6]),
}


@pytest.mark.parametrize("around", AROUND)
def test_a_program_that_is_not_the_delegate_alone_is_refused(around, fp16: PhoneFile, monkeypatch):
    def changed(path: Path) -> ProgramFile:
        file = read_program(path)
        plans = [AROUND[around](p) if p.name == "forward" else p for p in file.program.execution_plan]
        return replace(file, program=msgspec.structs.replace(file.program, execution_plan=plans))

    monkeypatch.setattr(coreml_runtime, "read_program", changed)
    with pytest.raises(ArtifactError) as refusal:
        REFERENCE.load(fp16.path)
    assert "\n" not in str(refusal.value)


def test_a_graph_in_parts_is_inspected_and_refused(tmp_path: Path):
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import to_edge_transform_and_lower

    fold = (nn.Unflatten(1, (2, 2)), nn.Sigmoid(), nn.Flatten(1, 2))  # rank 5 within the delegate alone
    network = nn.Sequential(nn.Conv2d(3, 4, 1), *fold, nn.Softmax(1), nn.Conv2d(4, 5, 1), nn.ReLU())
    exported = torch.export.export(network.eval(), (torch.zeros(1, 3, 4, 4),))
    partitioner = CoreMLPartitioner(skip_ops_for_coreml_delegation=["aten.softmax.int", "aten._softmax.default"])
    path = tmp_path / "parts.pte"
    path.write_bytes(to_edge_transform_and_lower(exported, partitioner=[partitioner]).to_executorch().buffer)
    found = converter.inspect(path)
    assert (found.backend, found.delegates, found.undelegated_ops) == ("coreml", 2, {"aten::softmax.int_out": 1})
    assert (found.operators["conv"], found.operators["aten::softmax.int_out"]) == (2, 1)
    assert found.max_rank == 5
    with pytest.raises(ArtifactError, match="is not one Core ML delegate"):
        REFERENCE.load(path)


# What is in the delegate.


def _package(files: dict[str, bytes], name: str) -> str:
    (found,) = (path for path in files if path.endswith(name))
    return found


def _metadata(**names):
    return lambda files: {**files, "metadata.json": json.dumps({"identifier": "x", **names}).encode()}


DAMAGES = {
    "no package": lambda f: {"metadata.json": f["metadata.json"]},
    "no weights": lambda f: {path: data for path, data in f.items() if not path.endswith("weight.bin")},
    "truncated weights": lambda f: {**f, (w := _package(f, "weight.bin")): f[w][:-100]},
    "a truncated program": lambda f: {**f, (m := _package(f, "model.mlmodel")): f[m][:-1000]},
    "no metadata": lambda f: {path: data for path, data in f.items() if path != "metadata.json"},
    "metadata of another shape": _metadata(inputNames="image"),
    "another input's name": _metadata(inputNames=["picture"], outputNames=["logits"]),
    "no input's name": _metadata(inputNames=[], outputNames=[]),
    "a compiled model beside it": lambda f: {**f, "model.mlmodelc/model.mil": b"what the phone would run"},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_delegate_that_is_not_whole_is_refused(damage, fp16: PhoneFile, monkeypatch):
    def read(path: Path, data: bytes):
        delegate = read_coreml_delegate(path, data)
        return replace(delegate, files=DAMAGES[damage](delegate.files))

    monkeypatch.setattr(coreml_runtime, "read_coreml_delegate", read)
    with pytest.raises(ArtifactError) as refusal:
        REFERENCE.load(fp16.path)
    assert str(refusal.value).startswith(str(fp16.path))
    assert "\n" not in str(refusal.value)


def test_a_compiled_model_counts_as_one_operator(fp16: PhoneFile, monkeypatch):
    from mobilevit_converters.executorch import inspect

    def compiled(path: Path, data: bytes):
        return replace(read_coreml_delegate(path, data), files={"model.mlmodelc/model.mil": b"..."})

    monkeypatch.setattr(inspect, "read_coreml_delegate", compiled)
    found = converter.inspect(fp16.path)
    assert (found.operators, found.delegates, found.backend) == ({COREML: 1}, 1, "coreml")


@pytest.fixture(scope="module")
def damaged(fp16: PhoneFile, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    def in_index(path: Path) -> tuple[Path, int, int]:
        size = path.stat().st_size
        return path, size - 1500, size  # where the index of the delegate lies

    def in_weights(path: Path) -> tuple[Path, int, int]:
        files = read_coreml_delegate(path, payload(path)).files
        weights = next(content for name, content in files.items() if name.endswith("weight.bin"))
        start = path.read_bytes().index(weights)
        return path, start, start + len(weights)

    return damaged_copies(fp16.path, tmp_path_factory.mktemp("damaged"), 18, anywhere, in_index, in_weights)


def test_damage_anywhere_is_read_or_refused(damaged: list[Path]):
    assert_inspected_or_refused(converter.inspect, damaged)


def test_a_damaged_file_is_refused_fails_or_computes_the_same(fp16: PhoneFile, damaged: list[Path]):
    assert_harmless(fates(fp16, converter, "fp16", "coreml-reference", damaged))


# What cannot be converted, and where it cannot run.


class _Head(nn.Module):
    """A classifier around one operation."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation
        self.conv = nn.Conv2d(3, 5, 1)

    def forward(self, x):
        return self.operation(self.conv(x)).mean((2, 3))


def one_operation(operation) -> tuple[nn.Module, ModelSpec]:
    _, spec = tiny_model()
    preprocessing = Preprocessing(image_size=(6, 6), resize_size=6)
    return randomize(_Head(operation), 0).eval(), msgspec.structs.replace(spec, preprocessing=preprocessing)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (nn.GELU("tanh"), "does not read the keywords of aten.gelu.default: {'approximate': 'tanh'}"),
        (lambda x: torch.add(x, x, alpha=2), "does not read the keywords of aten.add.Tensor: {'alpha': 2}"),
        (torch.acosh, "acosh"),
    ],
)
def test_what_coremltools_would_get_wrong_or_leave_outside_is_named(operation, message, tmp_path):
    model, spec = one_operation(operation)
    with pytest.raises(ToolchainError) as refusal:
        converter.convert(model, spec, "fp16", tmp_path / "model.pte")
    assert message in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_toolchain_says_how_to_get_it(fp16: PhoneFile, tmp_path, monkeypatch):
    installed = importlib.metadata.version

    def missing(name: str) -> str:
        if name == "coremltools":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert xnnpack.availability()
    assert not converter.availability()
    assert not REFERENCE.availability()
    for action in (
        lambda: converter.convert(fp16.graph, fp16.spec, "fp16", tmp_path / "model.pte"),
        lambda: converter.inspect(fp16.path),
        lambda: REFERENCE.load(fp16.path),
    ):
        with pytest.raises(ToolchainError, match=r"not installed: pip install 'mobilevit-sdk\[coreml\]'"):
            action()


def test_the_delegate_says_why_it_does_not_run_here(fp16: PhoneFile, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert not DELEGATE.availability()
    assert "coreml-reference executes its program here" in DELEGATE.availability().reason
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert DELEGATE.availability().version


@pytest.mark.skipif(platform.system() == "Darwin", reason="there the delegate is built in")
def test_a_runtime_built_without_the_delegate_says_so(fp16: PhoneFile):
    with pytest.raises(ToolchainError, match="was built without CoreMLBackend"):
        DELEGATE.load(fp16.path)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "floor_db"), [("fp32", 90), ("fp16", 40)])
def test_mobilevit_xxs_is_one_delegate(precision, floor_db, tmp_path):
    file = convert_model(converter, *mobilevit_xxs(96), precision, tmp_path)
    found = converter.inspect(file.path)
    assert (found.backend, found.delegates, found.undelegated_ops, found.max_rank) == ("coreml", 1, {}, 4)
    assert agreement(file).sqnr_db.worst >= floor_db
