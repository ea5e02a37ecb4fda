"""The .tflite files: they compute what PyTorch computes, carry what an app needs, and fail in one line when damaged."""

from __future__ import annotations

import importlib.metadata
import struct
import zipfile
from pathlib import Path

import damage_oracle
import msgspec
import numpy as np
import pytest
from damage import anywhere, assert_harmless, assert_inspected_or_refused, damaged_copies, fates
from helpers import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from mobilevit_converters.tflite import converter
from mobilevit_converters.tflite import inspect as inspection
from mobilevit_converters.tflite.convert import module_name
from mobilevit_converters.tflite.file.associated_files import MAX_SPEC, append_associated_files, read_spec
from phone_files import PhoneFile, SharedFiles, convert_model, mobilevit_xxs

from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.formats.converter import TensorInfo
from mobilevit_sdk.parity import Threshold, judge


@pytest.fixture(scope="session")
def fp32(phone_files: SharedFiles) -> PhoneFile:
    return phone_files.file("tflite", "fp32")


@pytest.fixture(scope="session")
def fp16(phone_files: SharedFiles) -> PhoneFile:
    return phone_files.file("tflite", "fp16")


def inspect_without_runtime(path: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "_delegation", lambda path, signature: (None, None))
        return converter.inspect(path)


def test_the_interface_has_the_documented_names_and_shapes(fp32: PhoneFile):
    found = converter.inspect(fp32.path)
    assert found.inputs == (TensorInfo(name="image", shape=(1, 36, 36, 3), dtype="float32"),)
    assert found.outputs == (TensorInfo(name="logits", shape=(1, 5), dtype="float32"),)


def test_signature_and_tensors_have_the_same_names(fp32: PhoneFile):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(fp32.path))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["logits"]}}
    assert [d["name"] for d in (*interpreter.get_input_details(), *interpreter.get_output_details())] == [
        "image",
        "logits",
    ]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_xnnpack_takes_the_whole_graph_at_rank_4(precision: str, request: pytest.FixtureRequest):
    found = converter.inspect(request.getfixturevalue(precision).path)
    assert (found.delegates, found.undelegated_ops, found.max_rank) == (1, {}, 4)
    assert found.operators["SOFTMAX"] == 2
    assert ("DEQUANTIZE" in found.operators) == (precision == "fp16")


def test_operators_outside_the_delegates_are_named(tmp_path: Path):
    litert_torch = pytest.importorskip("litert_torch")
    import torch

    class Interrupted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.sigmoid() * 3).cumsum(-1).tanh() * 2

    path = tmp_path / "model.tflite"
    litert_torch.convert(Interrupted().eval(), (torch.rand(1, 4, 4),)).export(str(path))
    found = converter.inspect(path)
    assert (found.delegates, found.undelegated_ops) == (2, {"CUMSUM": 1})
    assert found.operators == {"CUMSUM": 1, "LOGISTIC": 1, "MUL": 2, "TANH": 1}
    assert found.spec is None


def test_labels_are_a_text_file_within_the_file(fp32: PhoneFile):
    with zipfile.ZipFile(fp32.path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(fp32.spec.labels or ())
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_label_stays_on_one_line(tmp_path: Path):
    _, spec = tiny_model()
    path = tmp_path / "model.tflite"
    path.write_bytes(b"model")
    append_associated_files(path, msgspec.structs.replace(spec, labels=("a\nb", "c\r\n", "d", "é", "f")))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode() == "a b\nc\nd\né\nf\n"


@given(data=st.data())
def test_a_truncated_file_is_refused(fp32: PhoneFile, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    content = fp32.path.read_bytes()
    archive = content.index(b"PK\x03\x04")
    cut = data.draw(st.integers(0, len(content) - 1) | st.integers(archive - 64, len(content) - 1))
    path = tmp_path_factory.mktemp("cut") / "model.tflite"
    path.write_bytes(content[:cut])
    with pytest.raises(ArtifactError):
        inspect_without_runtime(path)
    if cut < archive - 16:  # the runtime has no use for the labels, and padding may end the model
        with pytest.raises(ArtifactError):
            converter.runtimes[0].load(path)


@given(head=st.binary(max_size=4), identifier=st.sampled_from([b"", b"TFL3"]), tail=st.binary(max_size=200))
def test_foreign_bytes_are_refused(
    head: bytes, tail: bytes, identifier: bytes, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("foreign") / "model.tflite"
    path.write_bytes(head.ljust(4, b"\0") + identifier + tail)
    for read in (inspect_without_runtime, converter.runtimes[0].load):
        with pytest.raises(ArtifactError) as refusal:
            read(path)
        assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
def damaged(fp32: PhoneFile, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    def in_graph(path: Path) -> tuple[Path, int, int]:
        return path, 0, path.stat().st_size // 4  # tensors and operators stand before the constants

    return damaged_copies(fp32.path, tmp_path_factory.mktemp("damaged"), 24, anywhere, in_graph)


def test_damage_anywhere_is_read_or_refused(damaged: list[Path]):
    assert_inspected_or_refused(inspect_without_runtime, damaged)


def test_a_damaged_file_is_refused_fails_or_computes_the_same(fp32: PhoneFile, damaged: list[Path]):
    assert_harmless(fates(fp32, converter, "fp32", "litert-cpu", damaged))


def test_the_oracle_notices_a_damaged_file_that_the_gate_lets_pass(fp32: PhoneFile, tmp_path: Path, monkeypatch):
    """Weights that are halved: another function. With a gate that passes everything, the oracle alone sees it."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(fp32.path))
    largest = max((b for b in model.buffers if b.data is not None), key=lambda buffer: len(buffer.data))
    largest.data = (np.frombuffer(bytes(largest.data), np.float32) / 2).view(np.uint8)
    path = tmp_path / "halved.tflite"
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    append_associated_files(path, fp32.spec)
    (fate,) = fates(fp32, converter, "fp32", "litert-cpu", [path])
    assert (fate.status, fate.wrong) == ("failed", False)
    passing = Threshold(sqnr_db=-1000.0, top1_agreement=0.0)
    monkeypatch.setattr(damage_oracle, "judge", lambda run: judge(run, {"fp32": passing}))
    (fate,) = fates(fp32, converter, "fp32", "litert-cpu", [path])
    assert (fate.status, fate.wrong) == ("passed", True)
    with pytest.raises(AssertionError):
        assert_harmless([fate])


def test_a_file_that_the_runtime_refuses_is_inspected_without_its_delegation(fp32: PhoneFile, tmp_path: Path):
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(fp32.path))
    model.subgraphs[0].operators[3].inputs[0] = 1 << 20
    path = tmp_path / "model.tflite"
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    append_associated_files(path, fp32.spec)
    found = converter.inspect(path)
    assert (found.delegates, found.undelegated_ops) == (None, None)
    assert found.operators == converter.inspect(fp32.path).operators
    with pytest.raises(ArtifactError, match="LiteRT cannot load"):
        converter.runtimes[0].load(path)


def test_a_list_longer_than_the_file_is_refused_without_walking_it(fp32: PhoneFile, tmp_path: Path):
    content = bytearray(fp32.path.read_bytes())
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    tensors = graph._tab.Vector(graph._tab.Offset(4))
    struct.pack_into("<I", content, tensors - 4, 0xFFFFFFFF)
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="truncated or damaged"):
        inspect_without_runtime(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{}", "malformed model.json"),
        (b"\xff", "malformed model.json"),
        (b" " * (MAX_SPEC + 1), "more than 16 MiB"),
    ],
    ids=["no spec", "no text", "bomb"],
)
def test_a_hostile_archive_is_refused(text: bytes, message: str, tmp_path: Path):
    path = tmp_path / "model.tflite"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", text)
    with pytest.raises(ArtifactError, match=message):
        read_spec(path, required=True)


def test_a_model_of_another_tool_has_no_spec(tmp_path: Path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no archive")
    assert read_spec(path, required=False) is None
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "one\n")
    assert read_spec(path, required=False) is None


def test_tensors_are_named_by_module():
    wrapper = "mobilevit_converters.tflite.convert.ChannelsLast/mobilevit_sdk.deployment.PhoneGraph_network"
    name = f"{wrapper}/my.Net_network/torch.nn.modules.container.Sequential_stages/torch.nn.Linear_0;1"
    assert module_name(f"{name};;{name}") == "network/stages/0;1;;network/stages/0;1"


def test_a_file_is_not_inspected_without_the_runtime_which_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ToolchainError, match="ai-edge-litert is not installed"):
        converter.inspect(tmp_path / "model.tflite")


@pytest.mark.slow
def test_mobilevit_xxs_runs_whole_and_half_the_size_in_fp16(tmp_path: Path):
    pytest.importorskip("litert_torch")
    model, spec = mobilevit_xxs(64)
    thresholds = {"fp32": 90, "fp16": 40}
    files = {precision: convert_model(converter, model, spec, precision, tmp_path) for precision in thresholds}
    for precision, threshold in thresholds.items():
        found = converter.inspect(files[precision].path)
        assert (found.delegates, found.undelegated_ops, found.max_rank) == (1, {}, 4)
        assert files[precision].agreement(converter).sqnr_db.worst >= threshold
    assert files["fp16"].path.stat().st_size < 0.56 * files["fp32"].path.stat().st_size
