"""Numbers of a bisection at the nodes of Model Explorer, which numbers or names them in its own way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_once import in_this_process
from phone_files import SharedFiles
from tiny_networks import tiny_spec

from mobilevit_sdk import convert
from mobilevit_sdk.bisection import write_overlay
from mobilevit_sdk.bisection.verdict import Bisection, Operator
from mobilevit_sdk.checkpoints.load import prepare
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.converter import find_converter


def found(*values: tuple[str, float], **options) -> Bisection:
    """A bisection of an artifact with these values, SQNR in dB by tensor."""
    operators = tuple(
        Operator("stem", "stem.0", "stem.0", (), "conv2d", "CONV_2D", tensor, 200.0, sqnr, sqnr, sqnr, sqnr, sqnr)
        for tensor, sqnr in values
    )
    return Bisection(
        artifact="a.tflite",
        format="tflite",
        precision="fp32",
        runtime="litert-cpu",
        status="agrees",
        cause=None,
        sqnr_db=100.0,
        threshold_db=40.0,
        cases=("noise",),
        culprit=None,
        others=0,
        weakest=operators[0],
        blocks=(),
        operators=operators,
        **options,
    )


def test_each_value_stands_at_the_operator_that_computes_it(phone_files: SharedFiles, tmp_path: Path) -> None:
    """Of a .tflite file: at its place among the operators. The tensors' names are read here by LiteRT's own schema."""
    from mobilevit_converters.tflite.file.schema import parse

    artifact = phone_files.artifact("tflite", "fp32")
    graph = parse(artifact.path.read_bytes()).subgraphs[0]
    names = [graph.tensors[operator.outputs[0]].name.decode() for operator in graph.operators]
    drawn = find_converter("tflite").drawn_graph(artifact.path)
    assert len(set(names)) == len(names) > 40
    assert {name: int(node) for name, node in drawn.nodes.items() if name in names} == {
        name: index for index, name in enumerate(names)
    }
    last = len(names) - 1
    bisection = found((names[last], 12.34), (names[3], 200.0), (names[3], 55.0), ("of no operator", 1.0))
    assert write_overlay(bisection, artifact, tmp_path / "overlay.json") == 2
    (data,) = json.loads((tmp_path / "overlay.json").read_text()).values()
    assert data["results"] == {str(last): {"value": 12.3}, "3": {"value": 55.0}}
    assert data["name"] == "SQNR in dB, fp32 on litert-cpu"
    limits = [each["value"] for each in data["thresholds"]]
    assert limits == [40, 50, 60, 200]  # red up to the scores' threshold; whatever is exact is the last
    assert data["thresholds"][0]["bgColor"] == "#c92a2a"


def test_nodes_are_those_of_model_explorer_itself(phone_files: SharedFiles) -> None:
    """By its own reader, where it is installed."""
    adapter = pytest.importorskip("model_explorer.builtin_tflite_flatbuffer_adapter")
    artifact = phone_files.artifact("tflite", "fp32")
    answer = adapter.BuiltinTfliteFlatbufferAdapter().convert(str(artifact.path), {"const_element_count_limit": 16})
    (graph,) = answer["graphCollections"][0].graphs
    named = {
        each.value: node.id
        for node in graph.nodes
        for output in node.outputsMetadata
        for each in output.attrs
        if each.key == "tensor_name" and node.label not in ("GraphInputs", "pseudo_const")
    }
    drawn = find_converter("tflite").drawn_graph(artifact.path)
    assert (drawn.graph, drawn.nodes) == (graph.id, named)


def test_nodes_of_onnx_have_their_own_names(phone_files: SharedFiles) -> None:
    onnx = pytest.importorskip("onnx")
    artifact = phone_files.artifact("onnx", "fp32")
    graph = onnx.load(artifact.path).graph
    drawn = find_converter("onnx").drawn_graph(artifact.path)
    assert drawn.graph == graph.name
    assert drawn.nodes == {node.name: node.name for node in graph.node}
    assert len(drawn.nodes) > 40


def test_a_format_that_the_viewer_does_not_open_is_refused_before_the_search(
    phone_files: SharedFiles, tmp_path: Path
) -> None:
    artifact = phone_files.artifact("executorch", "fp32")
    message = r"Model Explorer opens no \.pte file, only \.onnx, \.tflite"
    with pytest.raises(RequestError, match=message):
        write_overlay(found(("a", 1.0)), artifact, tmp_path / "overlay.json")
    overlay = str(tmp_path / "overlay.json")
    result = CliRunner().invoke(main, ["bisect", str(artifact.path), "--model-explorer", overlay])
    assert result.exit_code == 2
    assert "Model Explorer opens no .pte file" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_graph_of_a_file_with_several_is_the_one_that_was_searched(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")
    source = prepare(random_checkpoint(tiny_spec("mobilevit", 32), 0), Preparation(image_sizes=((32, 32), (32, 48))))
    with in_this_process():
        (artifact,) = convert(source, out=tmp_path, formats="tflite", check=False).artifacts
    converter, (first, second) = artifact.converter, artifact.manifest.entries
    drawn = {size: converter.drawn_graph(artifact.path, size) for size in (first.image_size, second.image_size)}
    assert len({each.graph for each in drawn.values()}) == 2
    chosen = drawn[second.image_size]
    write_overlay(found((next(iter(chosen.nodes)), 30.0), image_size=second.image_size), artifact, tmp_path / "o.json")
    assert list(json.loads((tmp_path / "o.json").read_text())) == [chosen.graph]
