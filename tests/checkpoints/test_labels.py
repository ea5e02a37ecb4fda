"""Class names from every file that people have them in: the right name at the right index, or a refusal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.checkpoints.labels import read_labels
from mobilevit_sdk.errors import RequestError

# Characters that str.splitlines cuts at and no label file means as a line end, and letters of several alphabets.
NAME = st.text(" é猫\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", max_size=8).map("a{}z".format)
NAMES = st.lists(NAME, min_size=1, max_size=12)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@given(NAMES, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_only_line_ends_cut_lines_in_every_unicode_encoding_with_a_mark(tmp_path, names, end, encoding):
    text = end.join(names) + end
    assert read_labels(write(tmp_path / "labels.txt", text.encode(encoding))) == tuple(names)


MAPPINGS = {
    "id2label": lambda names: {str(index): name for index, name in enumerate(names)},
    "label2id": lambda names: {name: index for index, name in enumerate(names)},
    "label2id in digits": lambda names: {name: str(index) for index, name in enumerate(names)},
    "imagenet_class_index": lambda names: {str(i): [f"n{i:08}", name] for i, name in enumerate(names)},
    "list": list,
}
IN_DOCUMENTS = {
    "id2label": MAPPINGS["id2label"],
    "label2id": MAPPINGS["label2id in digits"],
    "class_to_idx": MAPPINGS["label2id"],
    "label_names": list,
}


@given(st.lists(NAME, min_size=1, max_size=12, unique=True), st.sampled_from(sorted(MAPPINGS)), st.randoms())
def test_a_mapping_is_read_in_either_direction_and_any_order(tmp_path, names, kind, random):
    document = MAPPINGS[kind](names)
    if isinstance(document, dict):
        entries = list(document.items())
        random.shuffle(entries)
        document = dict(entries)
    for name in ("labels.json", "labels.txt"):
        assert read_labels(write(tmp_path / name, json.dumps(document))) == tuple(names)


@given(st.lists(st.sampled_from("0123456789"), min_size=2, unique=True), st.sampled_from(sorted(IN_DOCUMENTS)))
def test_names_that_are_digits_follow_the_key_they_stand_under(tmp_path, names, key):
    document = {"model_type": "mobilevit", "hidden_size": 3, key: IN_DOCUMENTS[key](names)}
    assert read_labels(write(tmp_path / "config.json", json.dumps(document))) == tuple(names)


REFUSED = {
    "numbered from 1": ({"1": "a", "2": "b"}, "has no class 0"),
    "a gap": ({"0": "a", "2": "b"}, "has no class 1"),
    "an index twice": ({"a": 0, "b": 0}, "has class 0 twice"),
    "an index below 0": ({"a": -1, "b": 0}, "has class -1 twice|has no class 0"),
    "a gap in class_to_idx": ({"class_to_idx": {"a": 0, "b": 7}}, "class_to_idx of .* has no class 1"),
    "numbers both ways": ({"0": "1", "1": "2", "2": "0"}, "both ways"),
    "a name that is empty": (["a", " "], "is not class names"),
    "a name that is a number": (["a", 7], "is not class names"),
    "a config without names": ({"model_type": "mobilevit"}, "is not class names"),
    "truths for indices": ({"a": False, "b": True}, "is not class names"),
    "nothing": ([], "is not class names"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_json_is_refused_by_name(case, tmp_path):
    document, message = REFUSED[case]
    with pytest.raises(RequestError, match=message):
        read_labels(write(tmp_path / "labels.json", json.dumps(document)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{0: 'tench',\n 1: 'goldfish'}", "is not JSON"),  # a Python dictionary, one name a line
        ("café\n".encode("cp1252"), r"byte 0xe9 at offset 3\); save it as UTF-8"),
        ("cat\ndog\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (b"\n \n", "holds no class names"),
        (b"\xff\xfea", "not UTF-16-LE text"),
    ],
)
def test_other_text_is_refused_by_name(content, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        read_labels(write(tmp_path / "labels.txt", content))


def test_a_first_name_in_brackets_is_a_name(tmp_path):
    assert read_labels(write(tmp_path / "labels.txt", "[background]\ncat\n")) == ("[background]", "cat")
