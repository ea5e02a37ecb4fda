"""`mobilevit doctor`: every toolchain and runtime with its version, or with the reason why not and what to do."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from mobilevit_sdk.cli import main
from mobilevit_sdk.formats.converter import converters
from mobilevit_sdk.formats.runtime import Availability, InstallableRuntime

RUNTIMES = {
    ("coreai", "coreai"),
    ("coreml", "coreml"),
    ("coreml", "coreml-ane"),
    ("coreml", "coreml-cpu"),
    ("coreml", "coreml-gpu"),
    ("coreml", "coreml-fp16-accumulate"),
    ("coreml", "coreml-reference"),
    ("executorch", "arm64"),
    ("executorch", "coreai"),
    ("executorch", "coreml-reference"),
    ("executorch", "executorch"),
    ("executorch", "vulkan-reference"),
    ("executorch", "vulkan-truncate"),
    ("onnx", "onnxruntime"),
    ("tflite", "arm64"),
    ("tflite", "litert-cpu"),
    ("tflite", "litert-cpu-builtin"),
    ("tflite", "litert-gpu"),
    ("tflite", "litert-web"),
    ("tflite", "litert-webgpu"),
    ("tflite", "tflite-runtime"),
}


def doctor(*options: str):
    return CliRunner().invoke(main, ["doctor", *options])


def test_each_row_has_a_version_or_a_reason():
    rows = json.loads(doctor("--json").stdout)["tools"]
    assert {(row["format"], row["name"]) for row in rows if row["kind"] == "runtime"} == RUNTIMES
    assert all(set(row) == {"kind", "name", "format", "backend", "version", "reason"} for row in rows)
    assert all((row["version"] is None) != (row["reason"] is None) for row in rows)


def test_what_can_be_fetched_is_found_by_its_name():
    message = json.loads(doctor("--install", "nothing-like-it", "--json").stdout)["error"]
    assert message.endswith("known: arm64, litert-web, swiftshader, tflite-runtime")


@pytest.fixture
def fetching(monkeypatch):
    """Which formats' parts of `arm64` were fetched; each says that it is there."""
    fetched = []
    for name, converter in converters().items():
        for runtime in converter.runtimes:
            if isinstance(runtime, InstallableRuntime) and runtime.requirement == "arm64":
                found = runtime.__class__
                monkeypatch.setattr(found, "install", lambda self, say, name=name: fetched.append(name) or f"/{name}")
                monkeypatch.setattr(found, "availability", lambda self: Availability("1.0 on QEMU"))
    return fetched


def test_every_format_that_shares_a_requirement_gets_it(fetching):
    document = json.loads(doctor("--install", "arm64", "--json").stdout)
    assert fetching == ["executorch", "tflite"]
    row = {"name": "arm64", "version": "1.0 on QEMU", "reason": None}
    assert document == {
        "installed": "arm64",
        "runtimes": [{**row, "format": name, "path": f"/{name}"} for name in fetching],
    }


def test_a_format_without_its_toolchain_does_without(fetching, monkeypatch):
    tflite = converters()["tflite"].__class__
    monkeypatch.setattr(tflite, "availability", lambda self: Availability(None, "not installed"))
    assert doctor("--install", "arm64").stdout == "arm64 (executorch): 1.0 on QEMU\n"
    assert fetching == ["executorch"]
