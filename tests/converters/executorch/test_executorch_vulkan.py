"""The .pte files for Android's GPUs: one Vulkan delegate, whose graph in the file answers as PyTorch does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from damage import anywhere, assert_harmless, assert_inspected_or_refused, damaged_copies, fates
from mobilevit_converters.executorch import converter as xnnpack
from mobilevit_converters.executorch.file.program import read_program
from mobilevit_converters.executorch.file.vulkan_delegate import VkGraph, read_vulkan_delegate
from mobilevit_converters.executorch.runtimes import vulkan
from mobilevit_converters.executorch.runtimes.vulkan_reference.operators import call
from mobilevit_converters.executorch.runtimes.vulkan_reference.program import _truncated
from phone_files import PhoneFile, SharedFiles, artifact_of
from tiny_networks import FAMILIES

from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.converter import TensorInfo
from mobilevit_sdk.parity import verify
from mobilevit_sdk.parity.metrics import compare

pytest.importorskip("executorch.exir")

converter = xnnpack.backends["vulkan"]
DELEGATE, REFERENCE, TRUNCATION = converter.runtimes


@pytest.fixture(scope="module")
def fp16(phone_files: SharedFiles) -> PhoneFile:
    """The tiny network in float16. Read only."""
    return phone_files.file("executorch", "fp16", backend="vulkan")


def graph_of(file: PhoneFile) -> VkGraph:
    program = read_program(file.path)
    (delegate,) = program.method("forward").delegates
    return read_vulkan_delegate(program, delegate).graph


def stated_types(file: PhoneFile) -> set[str]:
    return {value.value["datatype"] for value in graph_of(file).values if value.value_type == "VkTensor"}


@pytest.mark.slow
@pytest.mark.parametrize("precision", converter.precisions)
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "mobilevit"])
def test_every_family_is_one_delegate_that_answers_as_pytorch(family, precision, phone_files: SharedFiles):
    file = phone_files.file("executorch", precision, family, backend="vulkan")
    found = converter.inspect(file.path)
    assert (found.backend, found.delegates, found.undelegated_ops, found.max_rank) == ("vulkan", 1, {}, 4)
    agreement = file.agreement(converter)
    assert agreement.sqnr_db.worst >= {"fp32": 90, "fp16": 40}[precision]
    assert agreement.top1_agreement == 1


def test_float16_is_inside_and_float32_at_the_borders(fp16: PhoneFile):
    found = converter.inspect(fp16.path)
    assert found.inputs == (TensorInfo(name="input_0", shape=(1, 3, 36, 36), dtype="float32"),)
    assert found.outputs == (TensorInfo(name="output_0", shape=(1, 5), dtype="float32"),)
    # One conversion of the image and one of the scores: a SiLU of its own would add two each, outside the textures.
    assert found.operators["dim_order_ops._to_dim_order_copy.default"] == 2
    assert found.operators["aten.native_layer_norm.default"] == 5
    assert stated_types(fp16) == {"FLOAT16", "FLOAT32"}
    assert xnnpack.inspect(fp16.path) == found  # the file says it, whoever asks


def test_float32_has_no_float16_and_is_twice_as_large(fp16: PhoneFile, phone_files: SharedFiles):
    fp32 = phone_files.file("executorch", "fp32", backend="vulkan")
    assert stated_types(fp32) == {"FLOAT32"}
    weights = [sum(place.length for place in graph_of(file).constants) for file in (fp16, fp32)]
    assert 2 * weights[0] == weights[1]


def test_labels_are_a_method_that_an_app_can_call_without_the_backend(fp16: PhoneFile):
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(fp16.path)
    assert program.method_names == {"forward", "labels", "model_spec"}
    assert program.load_method("labels").execute([]) == ["\n".join(fp16.spec.labels or ())]


def test_a_maximum_is_over_whole_windows():
    x = torch.rand(1, 2, 5, 5)
    highest, places = call("aten.max_pool2d_with_indices.default", [x, [3, 3], [2, 2]])
    assert torch.equal(
        highest,
        torch.stack([x[..., i : i + 3, j : j + 3].amax((2, 3)) for i in (0, 2) for j in (0, 2)], 2).view(1, 2, 2, 2),
    )
    assert torch.equal(x.flatten(2).gather(2, places.flatten(2).long()), highest.flatten(2))
    for other in ([[1, 1]], [[0, 0], [2, 2]], [[0, 0], [1, 1], True]):
        with pytest.raises(ValueError, match="without padding"):
            call("aten.max_pool2d_with_indices.default", [x, [3, 3], [2, 2], *other])


def test_a_runtime_that_is_not_here_is_unavailable_and_not_passed(fp16: PhoneFile, monkeypatch):
    monkeypatch.delenv(vulkan.LIBRARY, raising=False)
    verdicts = verify(artifact_of(fp16, converter, "fp16"))
    assert {v.runtime: v.status for v in verdicts} == {"executorch": "unavailable", "vulkan-reference": "passed"}
    (missing,) = [v.reason for v in verdicts if v.status == "unavailable"]
    assert "built without VulkanBackend" in missing
    assert vulkan.LIBRARY in missing


def test_a_library_that_is_no_backend_is_refused(fp16: PhoneFile, tmp_path, monkeypatch):
    monkeypatch.setenv(vulkan.LIBRARY, str(tmp_path / "none.so"))
    assert "is not there" in DELEGATE.availability().reason
    (tmp_path / "none.so").write_text("not a library")
    assert DELEGATE.availability()
    with pytest.raises(ToolchainError, match="does not load"):
        DELEGATE.load(fp16.path)


def test_taps_are_every_value_in_the_order_of_execution(fp16: PhoneFile):
    tapped = REFERENCE.tap(fp16.path)
    image = fp16.reference.cases[0].as_passed()
    values = tapped.values(image)
    assert [value.shape for value in values] == [tap.shape for tap in tapped.taps]
    np.testing.assert_array_equal(values[-1].reshape(-1), REFERENCE.load(fp16.path)(image))
    steps = graph_of(fp16).chain
    assert [tap.operator for tap in tapped.taps if "norm" not in tap.operator] == [
        step.name for step in steps if "norm" not in step.name
    ]


def test_float16_is_rounded_to_the_nearest_or_toward_zero():
    step = 2**-10  # of float16 behind 1
    x = torch.tensor([1 + 0.9 * step, -1 - 0.9 * step, 1.0, 0.0, 7e4, -1e-9])
    assert _truncated(x).tolist() == [1, -1, 1, 0, 65504, 0]
    assert x.half()[:2].tolist() == [1 + step, -1 - step]


def test_truncation_is_another_answer_and_a_worse_one(fp16: PhoneFile):
    image, expected = fp16.reference.cases[0].as_passed(), fp16.reference.answers[:1]
    sqnr = [compare(expected, r.load(fp16.path)(image)[None]).sqnr_db.worst for r in (REFERENCE, TRUNCATION)]
    assert 30 < sqnr[1] < sqnr[0] - 6


# What the evaluator makes of single operators: what the shaders compute, whatever their ATen name promises.


def test_gelu_is_the_tanh_approximation_whatever_the_file_asks_for():
    x = torch.linspace(-4, 4, 101)
    for asked in ("none", "tanh"):
        (found,) = call("aten.gelu.default", [x, asked])
        torch.testing.assert_close(found, torch.nn.functional.gelu(x, approximate="tanh"))


@pytest.mark.parametrize("groups", [2, 3])
def test_a_convolution_in_groups_that_is_not_depthwise_is_refused(groups):
    weight = torch.rand(6, 6 // groups, 1, 1)
    rest = [None, [1, 1], [0, 0], [1, 1], False, [0, 0], groups]
    with pytest.raises(ValueError, match="not depthwise"):
        call("aten.convolution.default", [torch.rand(1, 6, 4, 4), weight, *rest])
    with pytest.raises(ValueError, match="one map"):
        call("aten.convolution.default", [torch.rand(2, 6, 4, 4), weight, *rest[:-1], 1])


def test_a_clamp_without_an_upper_limit_has_the_largest_double_there():
    arguments = [None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, 0.0, 1.7976931348623157e308]
    (found,) = call("et_vk.conv_with_clamp.default", [-torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1), *arguments])
    assert torch.equal(found, torch.zeros(1, 1, 2, 2))


# Hostile files.


def test_an_operator_that_the_evaluator_does_not_know_is_named(fp16: PhoneFile, tmp_path):
    copy = tmp_path / fp16.path.name
    content = fp16.path.read_bytes()
    assert b"aten.bmm.default" in content
    copy.write_bytes(content.replace(b"aten.bmm.default", b"aten.bmn.default"))
    with pytest.raises(ToolchainError, match=r"does not know operator aten\.bmn\.default"):
        REFERENCE.load(copy)


@pytest.fixture(scope="module")
def damaged(fp16: PhoneFile, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Bytes changed anywhere, and in the graph."""

    def in_graph(path: Path) -> tuple[Path, int, int]:
        start = path.read_bytes().index(b"VH00")
        return path, start, start + 20_000

    return damaged_copies(fp16.path, tmp_path_factory.mktemp("damaged"), 12, anywhere, in_graph)


def test_damage_anywhere_is_read_or_refused(damaged: list[Path]):
    assert_inspected_or_refused(converter.inspect, damaged)


def test_a_damaged_file_is_refused_fails_or_computes_the_same(fp16: PhoneFile, damaged: list[Path]):
    assert_harmless(fates(fp16, converter, "fp16", "vulkan-reference", damaged))
