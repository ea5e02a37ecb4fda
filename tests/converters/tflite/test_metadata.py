"""TFLite Metadata in every file: what the tools of Android and MediaPipe read."""

from __future__ import annotations

import zipfile

import flatbuffers
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mobilevit_converters.tflite import converter
from mobilevit_converters.tflite.file.metadata import DAMAGE, TABLES, decode, document, encode
from mobilevit_converters.tflite.file.schema import parse, serialize
from phone_files import SharedFiles
from tiny_networks import tiny_spec

from mobilevit_sdk.errors import ArtifactError

Table = flatbuffers.table.Table


def test_a_file_says_how_its_image_is_fed_and_where_its_labels_are(phone_files: SharedFiles):
    file = phone_files.file("tflite", "fp32")
    found = converter.inspect(file.path).metadata
    assert found == document(file.spec)
    (graph,) = found["subgraph_metadata"]
    (image,), (scores,) = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
    properties = image["content"]["content_properties"]["ImageProperties"]
    height, width = file.spec.preprocessing.image_size
    assert properties == {"color_space": "RGB", "default_size": {"width": width, "height": height}}
    assert image["process_units"] == [{"options": {"NormalizationOptions": {"mean": [0.0], "std": [255.0]}}}]
    (labels,) = scores["associated_files"]
    assert (labels["name"], labels["type"]) == ("labels.txt", "TENSOR_AXIS_LABELS")
    with zipfile.ZipFile(file.path) as archive:  # stored, as the readers in C++ expect
        assert archive.getinfo("labels.txt").compress_type == zipfile.ZIP_STORED
        assert archive.read("labels.txt").decode().splitlines() == list(file.spec.labels)
    names = [each.name for each in (*converter.inspect(file.path).inputs, *converter.inspect(file.path).outputs)]
    assert names == [image["name"], scores["name"]]


def test_what_is_fed_by_it_is_what_the_runtime_is_fed(phone_files: SharedFiles):
    """(pixel - mean) / std of 8-bit pixels, given to the interpreter by hand."""
    from ai_edge_litert.interpreter import Interpreter

    file = phone_files.file("tflite", "fp32")
    (image,) = converter.inspect(file.path).metadata["subgraph_metadata"][0]["input_tensor_metadata"]
    scale = image["process_units"][0]["options"]["NormalizationOptions"]
    pixels = file.reference.cases[-1].image
    interpreter = Interpreter(str(file.path))
    interpreter.allocate_tensors()
    fed = (pixels.transpose(1, 2, 0)[None].astype(np.float32) - scale["mean"]) / scale["std"]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], fed.astype(np.float32))
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    np.testing.assert_allclose(answer, file.reference.answers[-1], rtol=1e-3, atol=1e-3)


def test_without_labels_no_file_is_named():
    (graph,) = document(tiny_spec("mobilevit"))["subgraph_metadata"]
    assert graph["output_tensor_metadata"][0]["associated_files"] == []


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=9)
files = st.fixed_dictionaries({"name": words, "type": st.sampled_from(["DESCRIPTIONS", "TENSOR_AXIS_LABELS"])})
numbers = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4)


@given(
    content=st.fixed_dictionaries(
        {"name": words},
        optional={
            "license": words,
            "associated_files": st.lists(files, min_size=1, max_size=3),
            "subgraph_metadata": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "output_tensor_metadata": st.lists(
                            st.fixed_dictionaries(
                                {"dimension_names": st.lists(words, min_size=1, max_size=3)},
                                optional={"stats": st.fixed_dictionaries({"max": numbers, "min": numbers})},
                            ),
                            min_size=1,
                            max_size=3,
                        )
                    },
                ),
                min_size=1,
                max_size=2,
            ),
        },
    )
)
def test_what_is_written_is_read_back(content):
    assert decode(encode(content)) == content


def test_fields_stand_in_the_places_of_the_public_schema():
    """By the place of each: flatbuffers have no names. The license of a model is its sixth field, at offset 14."""
    content = encode({"name": "n", "license": "l", "min_parser_version": "1.0.0"})
    assert content[4:8] == b"M001"
    table = Table(content, int.from_bytes(content[:4], "little"))
    read = [table.String(table.Pos + table.Offset(at)) for at in (4, 14, 18)]
    assert read == [b"n", b"l", b"1.0.0"]
    assert [len(TABLES[name]) for name in ("ModelMetadata", "TensorMetadata")] == [8, 7]


def test_damaged_metadata_is_refused_with_the_file_s_name(phone_files: SharedFiles, tmp_path):
    model = parse(phone_files.file("tflite", "fp32").path.read_bytes())
    (entry,) = [each for each in model.metadata if each.name == b"TFLITE_METADATA"]
    whole = bytes(model.buffers[entry.buffer].data)
    path = tmp_path / "model.tflite"
    model.description = b"another's"  # whose archive may be missing
    for damaged in (whole[:60], whole[:4] + b"M002" + whole[8:], b""):
        model.buffers[entry.buffer].data = np.frombuffer(damaged, np.uint8)
        path.write_bytes(serialize(model))
        with pytest.raises(ArtifactError, match=r"model.tflite carries damaged TFLite Metadata"):
            converter.inspect(path)


@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_damage_never_ends_in_another_error_or_a_long_wait(place, value):
    spec = msgspec.structs.replace(tiny_spec("mobilevit"), labels=tuple("abcde"))
    content = bytearray(encode(document(spec)))
    content[place % len(content)] = value
    try:
        found = decode(bytes(content))
    except DAMAGE:
        return
    assert isinstance(found, dict)
