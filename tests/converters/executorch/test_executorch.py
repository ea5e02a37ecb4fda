"""The .pte files: they compute what PyTorch computes, carry what an app needs, and fail in one line when damaged."""

from __future__ import annotations

import importlib.metadata
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from damage import assert_harmless, assert_inspected_or_refused, damaged_copies, fates
from helpers import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from mobilevit_converters.executorch import converter
from mobilevit_converters.executorch.file.program import XValue, read_program
from phone_files import PhoneFile, convert_model, mobilevit_xxs, patched, same_spec

from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.formats.converter import TensorInfo

few = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="session")
def pte(tmp_path_factory: pytest.TempPathFactory) -> PhoneFile:
    pytest.importorskip("executorch.runtime")
    # 20 pixels: the attention stage sees 5x5, no multiple of the patch, and resizes.
    return convert_model(converter, *tiny_model(image_size=20), "fp32", tmp_path_factory.mktemp("executorch"))


def test_importing_the_converter_imports_no_toolchain():
    code = "import sys, mobilevit_converters.executorch; print(*{'torch', 'executorch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_it_answers_as_pytorch(pte: PhoneFile):
    agreement = pte.agreement(converter)
    assert agreement.sqnr_db.worst >= 90
    assert agreement.top1_agreement == 1


def test_non_contiguous_pixels_give_the_same_answer(pte: PhoneFile):
    answer = converter.runtimes[0].load(pte.path)
    noise = next(case.image for case in pte.reference.cases if case.name == "noise")
    strided = np.asfortranarray(noise)
    assert not strided.flags.c_contiguous
    np.testing.assert_array_equal(answer(strided), answer(noise))


def test_a_wrong_channel_order_would_show(pte: PhoneFile):
    answer = converter.runtimes[0].load(pte.path)
    photograph = pte.reference.cases[0].image
    assert np.abs(answer(photograph[::-1]) - answer(photograph)).max() > 0.1


def test_an_answer_outlives_the_next_one(pte: PhoneFile):
    answer = converter.runtimes[0].load(pte.path)
    first = answer(pte.reference.cases[0].image)
    kept = first.copy()
    answer(pte.reference.cases[2].image)
    np.testing.assert_array_equal(first, kept)


def test_one_delegate_takes_the_whole_graph_at_rank_4(pte: PhoneFile):
    found = converter.inspect(pte.path)
    assert (found.delegates, found.undelegated_ops, found.max_rank) == (1, {}, 4)
    assert found.operators["XNNSoftmax"] == 2
    assert found.operators["XNNStaticResizeBilinear2D"] == 2


def test_the_interface_has_the_documented_shapes(pte: PhoneFile):
    found = converter.inspect(pte.path)
    assert found.inputs == (TensorInfo(name="input_0", shape=(1, 3, 20, 20), dtype="float32"),)
    assert found.outputs == (TensorInfo(name="output_0", shape=(1, 5), dtype="float32"),)


def test_labels_and_spec_are_methods_that_an_app_can_call(pte: PhoneFile):
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(pte.path)
    assert program.method_names == {"forward", "labels", "model_spec"}
    assert program.load_method("labels").execute([]) == ["\n".join(pte.spec.labels or ())]
    assert same_spec(converter.inspect(pte.path).spec, pte.spec)


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


def test_the_runtime_reads_the_file(pte: PhoneFile):
    bias = pte.graph.get_parameter("network.head.bias").numpy()
    moved = patched(pte, bias.tobytes(), (bias + np.float32(1)).tobytes())
    image = pte.reference.cases[0].image
    before, after = (converter.runtimes[0].load(path)(image) for path in (pte.path, moved))
    np.testing.assert_allclose(after, before + 1, rtol=1e-5)


@few
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


@few
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

    return damaged_copies(pte.path, tmp_path_factory.mktemp("damaged"), 12, in_program)


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


def test_a_missing_toolchain_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    model, spec = tiny_model()
    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert not converter.availability()
    assert not converter.runtimes[0].availability()
    with pytest.raises(ToolchainError, match=r"not installed: pip install 'mobilevit-sdk\[executorch\]'"):
        converter.convert(model, spec, "fp32", tmp_path / "model.pte")


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [64, 96])  # at 96 the last stage sees 3x3 and resizes to 4x4
def test_mobilevit_xxs_runs_whole(image_size: int, tmp_path: Path):
    pytest.importorskip("executorch.runtime")
    file = convert_model(converter, *mobilevit_xxs(image_size), "fp32", tmp_path)
    found = converter.inspect(file.path)
    assert (found.delegates, found.undelegated_ops, found.max_rank) == (1, {}, 4)
    assert ("XNNStaticResizeBilinear2D" in found.operators) == (image_size == 96)
    assert file.agreement(converter).sqnr_db.worst >= 90
