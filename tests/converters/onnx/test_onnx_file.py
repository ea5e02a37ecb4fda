"""What only .onnx has: hostile and foreign files, rows of tokens, 8 bits, taps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mobilevit_converters.onnx.passes.token_rows import tokens_as_rows
from phone_files import SharedFiles

from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.converter import find_converter

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def converter():
    return find_converter("onnx")


@pytest.fixture
def changed(phone_files: SharedFiles, tmp_path):
    """Write a copy of the file that `change` was made to."""

    def write(change: Callable[[Any], object]):
        model = onnx.load(phone_files.file("onnx", "fp32").path)
        change(model)
        path = tmp_path / "changed.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_in_an_operator(model):
    node = model.graph.node.add(op_type="Constant", output=["hidden"])
    attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.external_data.add(key="location", value="../secret")


def loop(model):
    node = model.graph.node.add(op_type="Loop", output=["never"])
    node.attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.name = "body"


def function(model):
    model.functions.add(name="mine", domain="mine")


def short_constant(model):
    model.graph.initializer[0].dims[0] += 1


def huge_constant(model):
    model.graph.initializer[0].dims[:] = [2**40, 2**22]


def high_rank(model):
    for _ in range(9):
        model.graph.value_info[0].type.tensor_type.shape.dim.add(dim_value=1)


def without_spec(model):
    del model.metadata_props[:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (external, "keeps weights in another file, which is refused; save it with its weights inside"),
        (external_in_an_operator, "keeps weights in another file"),
        (loop, r"has a graph within an operator \(Loop\)"),
        (function, "defines functions of its own"),
        (short_constant, "is damaged: the constant '.*' does not fit its shape"),
        (huge_constant, "does not fit its shape"),
        (high_rank, "a rank above 8"),
    ],
)
def test_what_nothing_here_writes_is_refused_by_inspection_and_runtime(converter, changed, change, reason):
    path = changed(change)
    for read in (converter.inspect, converter.runtimes[0].load):
        with pytest.raises(ArtifactError, match=reason):
            read(path)


def test_a_file_without_its_description_is_cut_off(converter, changed):
    with pytest.raises(ArtifactError, match="is truncated: the description of its model is missing"):
        converter.inspect(changed(without_spec))


def test_an_unknown_operator_is_inspected_and_refused_by_the_runtime(converter, changed):
    def change(model):
        model.opset_import.add(domain="com.example", version=1)
        model.graph.node[0].domain = "com.example"

    path = changed(change)
    assert any(name.startswith("com.example.") for name in converter.inspect(path).operators)
    with pytest.raises(ArtifactError, match="onnxruntime cannot load"):
        converter.runtimes[0].load(path)


def test_the_file_says_what_it_is_for_people_and_nothing_of_the_machine(converter, phone_files: SharedFiles):
    file = phone_files.file("onnx", "fp32")
    found = converter.inspect(file.path)
    assert (found.oldest_system, found.outputs[0].name) == ("opset 20", "logits")
    assert found.metadata["image"].startswith("float32 [1, 3, 36, 36], RGB in [0, 1]")
    assert list(file.spec.labels) == json.loads(found.metadata["labels"])
    content = file.path.read_bytes()
    assert b".py" not in content
    assert onnx.load(file.path).graph.node[0].name == "normalization/Sub"


def test_linears_of_tokens_are_one_operator_each(converter, phone_files: SharedFiles):
    found = converter.inspect(phone_files.file("onnx", "fp32").path).operators
    linears = sum(type(module).__name__ == "Linear" for module in phone_files.file("onnx", "fp32").graph.modules())
    assert found["Gemm"] == linears
    assert found["MatMul"] == 2 * found["Softmax"]  # nothing else: bias and transposes are in the Gemm


def test_every_value_of_the_file_is_tapped_and_the_last_is_the_answer(converter, phone_files: SharedFiles):
    file = phone_files.file("onnx", "fp32")
    tapped = converter.runtimes[0].tap(file.path)
    image = file.reference.cases[0].image
    values = tapped.values(image)
    assert [value.shape for value in values] == [tap.shape for tap in tapped.taps]
    np.testing.assert_allclose(values[-1].ravel(), converter.runtimes[0].load(file.path)(image), atol=1e-6)
    assert {"Conv", "Gemm", "LayerNormalization", "Softmax"} <= {tap.operator for tap in tapped.taps}


def test_a_linear_of_rows_takes_no_name_that_the_graph_has():
    """onnxruntime refuses two nodes of one name; without module scopes they are numbered by their kind."""
    tensor, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    weight = onnx.numpy_helper.from_array(np.eye(8, dtype=np.float32), "weight")
    shape = onnx.numpy_helper.from_array(np.array([4, 8]), "shape")
    nodes = [
        node("MatMul", ["image", "weight"], ["tokens"], "MatMul"),
        node("Reshape", ["tokens", "shape"], ["matrix"], "Reshape"),
        node("Gemm", ["matrix", "weight"], ["logits"], "Gemm"),
    ]
    ends = [tensor(name, onnx.TensorProto.FLOAT, dims) for name, dims in (("image", [1, 4, 8]), ("logits", [4, 8]))]
    graph = onnx.helper.make_graph(nodes, "graph", ends[:1], ends[1:], [weight, shape])
    model = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph))
    tokens_as_rows(model)
    names = [each.name for each in model.graph.node]
    assert sum(each.op_type == "Gemm" for each in model.graph.node) == 2
    assert len(set(names)) == len(names)
