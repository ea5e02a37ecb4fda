"""Every reader of untrusted files: reads what is valid, and refuses in one line what was seen to break one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from reader_seeds import Seeds
from untrusted_readers import READERS, Reader

from mobilevit_sdk.errors import MobileViTError

# Those whose seeds are phone files have tests of their own, in tests/converters/.
CONVERTED = {"manifest", "reference", "tflite", "onnx", "coreml", "coreai"}
CHEAP = [each for each in READERS if each.name not in CONVERTED and not each.name.startswith("executorch")]
OF_JSON = [each for each in CHEAP if each.name in {
    "index", "release", "labels", "metrics", "recipe", "quantization", "stored-labels", "coco", "metadata",
    "device-report", "verdicts",
}]  # fmt: skip
DEEP = b"[" * 100_000


def read(reader: Reader, folder: Path, content: bytes) -> None:
    path = folder / f"file{reader.suffix}"
    if reader.place:
        path = reader.place(path, content)
    else:
        path.write_bytes(content)
    reader.read(path)


@pytest.mark.parametrize("reader", CHEAP, ids=lambda each: each.name)
def test_what_is_valid_is_read(reader: Reader, tmp_path: Path) -> None:
    """Else a fuzzer would start from nothing. The second `.safetensors` is of no network, one TIFF is black."""
    refused = {"safetensors": 1, "picture": 1}
    found = 0
    for content in reader.seeds(Seeds.default()):
        try:
            read(reader, tmp_path, content)
        except MobileViTError:
            found += 1
    assert found == refused.get(reader.name, 0)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text.replace(b'": ', b'": ' + DEEP, 1).replace(b'":', b'":' + DEEP, 1), id="nested"),
        pytest.param(lambda text: text.replace(b'{"', b'{"a\\nb\\u001b[31m": 0, "', 1), id="a line in a key"),
        pytest.param(lambda text: text.replace(b'": "', b'": "' + b"a" * 5000), id="long names"),
        pytest.param(lambda text: text[: len(text) // 2], id="cut"),
        pytest.param(lambda text: b"", id="empty"),
        pytest.param(lambda text: text.replace(b'":', b'":\xff', 1), id="no UTF-8"),
    ],
)
@pytest.mark.parametrize("reader", OF_JSON, ids=lambda each: each.name)
def test_strange_json_is_read_or_refused_in_a_line(
    reader: Reader, change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    for content in reader.seeds(Seeds.default()):
        lead = content[:1] if reader.place and reader.name in {"release", "stored-labels", "metadata"} else b""
        try:
            read(reader, tmp_path, lead + change(content[len(lead) :]))
        except MobileViTError as error:
            assert "\n" not in str(error)  # noqa: PT017
