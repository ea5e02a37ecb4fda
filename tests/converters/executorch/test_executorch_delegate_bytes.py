"""The bytes of a Core ML delegate as an untrusted file: nothing but a tree of its own bytes comes out of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mobilevit_converters.executorch.file.coreml_delegate import read_coreml_delegate

from mobilevit_sdk.errors import ArtifactError


def packed(nodes: object, data: bytes = b"contents") -> bytes:
    return data + json.dumps({"nodes": nodes}).encode()[::-1]


def node(name: str, offset: int = 0, size: int = 0, **children: int) -> dict:
    kind = 1 if children else 0
    return {"name": name, "kind": kind, "dataRegion": {"offset": offset, "size": size}, "children": children}


def test_files_come_out_by_their_paths():
    nodes = [node("a", 0, 3), node("b", 3, 5), node("below", b=1), node("root", a=0, below=2)]
    assert read_coreml_delegate(Path("x.pte"), packed(nodes)).files == {"a": b"con", "below/b": b"tents"}


def _renamed(name: str, key: str | None = None) -> bytes:
    return packed([node(name, 0, 3), node("root", **{name if key is None else key: 0})])


MANY = {f"file{i}": i for i in range(99)}
MALFORMED = {
    "nothing": b"",
    "no index": b"contents",
    "an index of another shape": packed({"a": 1}),
    "an index without an end": packed([node("a")])[1 + len(b"contents") :],
    "brackets without end": b"[" * 200_000,
    "no entries": packed([]),
    "a kind of its own": packed([{**node("a"), "kind": 2}]),
    "bytes behind the end": packed([node("a", 0, 10_000), node("root", a=0)]),
    "bytes before the start": packed([node("a", -4, 4), node("root", a=0)]),
    "a negative size": packed([node("a", 4, -4), node("root", a=0)]),
    "bytes given out again and again": packed([*(node(f, 0, 200) for f in MANY), node("root", **MANY)]),
    "an entry that is not there": packed([node("root", a=5)]),
    "an entry before the first": packed([node("a", 0, 3), node("root", a=-2)]),
    "a folder within itself": packed([node("root", root=0)]),
    "a file in two places": packed([node("a", 0, 3), node("below", a=0), node("root", a=0, below=1)]),
    "a way out": _renamed(".."),
    "an absolute path": _renamed("/etc/passwd"),
    "a path in a name": _renamed("a/b"),
    "a null character": _renamed("a\0b"),
    "a name of no letters": _renamed(""),
    "a name that is too long": _renamed("x" * 5000),
    "two names": _renamed("a", "b"),
    "a model of several methods": b'CMJR{"version": 1, "key": "coreml"}',
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_delegate_is_refused(case):
    with pytest.raises(ArtifactError) as refusal:
        read_coreml_delegate(Path("x.pte"), MALFORMED[case])
    assert str(refusal.value).startswith("x.pte")
    assert "\n" not in str(refusal.value)
