"""Every text that a person may have written is read with the marks that Windows editors and shells put before it."""

from __future__ import annotations

import codecs
import json

import pytest

from mobilevit_sdk.checkpoints.beside.keys import read_json
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import read_text
from mobilevit_sdk.formats.quantization import read_recipe as read_quantization
from mobilevit_sdk.parity import find_config, read_baseline, read_thresholds
from mobilevit_sdk.recipe import read_recipe

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


def thresholds(path):
    assert find_config(path.parent) == path
    return read_thresholds(path)["fp32"].sqnr_db


# What each reader makes of its text.
READERS = {
    "training recipe": ("recipe.json", '{"epochs": 7}', lambda path: read_recipe(path).epochs, 7),
    "quantization recipe": ("recipe.json", '{"group_size": 64}', lambda path: read_quantization(path).group_size, 64),
    "thresholds": ("pyproject.toml", "[tool.mobilevit.parity.fp32]\nsqnr_db = 101\n", thresholds, 101),
    "baseline": ("verdicts.json", '{"verdicts": []}', lambda path: read_baseline(path).rows, ()),
    "config beside weights": (
        "config.json",
        json.dumps({"id2label": {"0": "Café"}}, ensure_ascii=False),
        lambda path: read_json(path, "weights").take("id2label", dict[int, str]),
        {0: "Café"},
    ),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", READERS)
def test_a_byte_order_mark_changes_nothing(kind, encoding, tmp_path):
    name, text, read, expected = READERS[kind]
    (path := tmp_path / name).write_bytes(text.encode(encoding))
    assert read(path) == expected


@pytest.mark.parametrize("kind", READERS)
def test_another_encoding_is_refused_with_the_files_name(kind, tmp_path):
    name, text, read, _ = READERS[kind]
    (path := tmp_path / name).write_bytes(text.encode() + b"\xe9")
    with pytest.raises(RequestError, match=rf"{name}.*(0xe9|save it as UTF-8)"):
        read(path)


def test_big_endian_text_is_read_and_line_ends_stay(tmp_path):
    (path := tmp_path / "text").write_bytes(codecs.BOM_UTF16_BE + "a\r\nb\u2028".encode("utf-16-be"))
    assert read_text(path) == "a\r\nb\u2028"
