"""The .pte files: they compute what PyTorch computes, carry what an app needs, and fail in one line when damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from damage import anywhere, assert_harmless, assert_inspected_or_refused, damaged_copies, fates
from hypothesis import given
from hypothesis import strategies as st
from mobilevit_converters.executorch import converter
from mobilevit_converters.executorch.file.program import XValue, read_program
from phone_files import PhoneFile, SharedFiles, convert_model, mobilevit_xxs

from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.converter import TensorInfo


@pytest.fixture(scope="session")
def pte(phone_files: SharedFiles) -> PhoneFile:
    return phone_files.file("executorch", "fp32")


def test_one_delegate_takes_the_whole_graph_at_rank_4(pte: PhoneFile):
    found = converter.inspect(pte.path)
    assert (found.delegates, found.undelegated_ops, found.max_rank) == (1, {}, 4)
    assert found.operators["XNNSoftmax"] == 2
    assert found.operators["XNNStaticResizeBilinear2D"] == 2


def test_the_interface_has_the_documented_shapes(pte: PhoneFile):
    found = converter.inspect(pte.path)
    assert found.inputs == (TensorInfo(name="input_0", shape=(1, 3, 36, 36), dtype="float32"),)
    assert found.outputs == (TensorInfo(name="output_0", shape=(1, 5), dtype="float32"),)


def test_labels_are_a_method_that_an_app_can_call(pte: PhoneFile):
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(pte.path)
    assert program.method_names == {"forward", "labels", "model_spec"}
    assert program.load_method("labels").execute([]) == ["\n".join(pte.spec.labels or ())]


def test_operators_outside_the_delegate_are_named(tmp_path: Path):
    pytest.importorskip("executorch.exir")
    import torch
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(torch.nn.Softmax(-1), (torch.zeros(1, 3, 2, 2),))
    path = tmp_path / "portable.pte"
    path.write_bytes(to_edge_transform_and_lower(exported).to_executorch().buffer)
    found = converter.inspect(path)
    assert (found.delegates, found.undelegated_ops) == (0, {"aten::_softmax.out": 1})
    assert found.operators == found.undelegated_ops
    assert found.spec is None


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(pte: PhoneFile, share: float, tmp_path_factory: pytest.TempPathFactory):
    content = pte.path.read_bytes()
    path = tmp_path_factory.mktemp("cut") / "model.pte"
    path.write_bytes(content[: int(share * len(content))])
    for read in (converter.inspect, converter.runtimes[0].load):
        with pytest.raises(ArtifactError):
            read(path)


def test_a_truncated_file_names_the_missing_bytes(pte: PhoneFile, tmp_path: Path):
    content = pte.path.read_bytes()
    path = tmp_path / "model.pte"
    path.write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match=f"{len(content) - 1} of {len(content)} bytes are there"):
        converter.inspect(path)


@given(head=st.binary(max_size=4), tail=st.binary(max_size=200), identifier=st.sampled_from([b"", b"ET12eh00"]))
def test_foreign_bytes_are_refused(
    head: bytes, tail: bytes, identifier: bytes, tmp_path_factory: pytest.TempPathFactory
):
    pytest.importorskip("executorch.runtime")
    path = tmp_path_factory.mktemp("foreign") / "model.pte"
    path.write_bytes(head.ljust(4, b"\0") + identifier + tail)
    for read in (converter.inspect, converter.runtimes[0].load):
        with pytest.raises(ArtifactError) as refusal:
            read(path)
        assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
def damaged(pte: PhoneFile, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    def in_program(path: Path) -> tuple[Path, int, int]:
        return path, 0, struct.unpack_from("<Q", path.read_bytes(), 16)[0]

    return damaged_copies(pte.path, tmp_path_factory.mktemp("damaged"), 12, anywhere, in_program)


def test_damage_anywhere_is_read_or_refused(damaged: list[Path]):
    assert_inspected_or_refused(converter.inspect, damaged)


def test_a_damaged_file_is_refused_fails_or_computes_the_same(pte: PhoneFile, damaged: list[Path]):
    assert_harmless(fates(pte, converter, "fp32", "executorch", damaged))


def test_numbers_that_are_not_finite_do_not_spoil_the_text(tmp_path: Path):
    pytest.importorskip("executorch.exir")
    import torch
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(torch.nn.Softmax(-1), (torch.zeros(1, 3, 2, 2),))
    numbers = {"limit": float("inf"), "text": 'inf and "nan"', "none": float("nan")}
    path = tmp_path / "numbers.pte"
    path.write_bytes(to_edge_transform_and_lower(exported, constant_methods=numbers).to_executorch().buffer)
    method = read_program(path).method("text")
    assert method is not None
    assert method.values[method.outputs[0]].val == {"string_val": 'inf and "nan"'}


def test_a_quantized_tensor_counts_with_its_rank():
    assert XValue({"tensor_value": {"dims": [1, 2, 3]}, "quant_params": {}}).rank == 3
    assert XValue({"dims": [1, 2]}).rank == 2


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [64, 96])  # at 96 the last stage sees 3x3 and resizes to 4x4
def test_mobilevit_xxs_runs_whole(image_size: int, tmp_path: Path):
    pytest.importorskip("executorch.runtime")
    file = convert_model(converter, *mobilevit_xxs(image_size), "fp32", tmp_path)
    found = converter.inspect(file.path)
    assert (found.delegates, found.undelegated_ops, found.max_rank) == (1, {}, 4)
    assert ("XNNStaticResizeBilinear2D" in found.operators) == (image_size == 96)
    assert file.agreement(converter).sqnr_db.worst >= 90
