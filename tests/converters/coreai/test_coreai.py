"""Core AI files: what travels in their metadata, which files are refused, and where the toolchain does not run."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import msgspec
import pytest
from mobilevit_converters.coreai import converter
from mobilevit_converters.coreai.convert import description
from mobilevit_converters.coreai.file.asset import read_asset
from phone_files import runtime_of

from mobilevit_sdk.errors import ArtifactError


@pytest.fixture(scope="module")
def asset(phone_files):
    return phone_files.file("coreai", "fp16")


@pytest.fixture
def copy(asset, tmp_path) -> Path:
    return shutil.copytree(asset.path, tmp_path / asset.path.name)


def edit(path: Path, change) -> None:
    document = json.loads((path / "metadata.json").read_text())
    change(document)
    (path / "metadata.json").write_text(json.dumps(document))


def seal(path: Path) -> None:
    (path / "main.hash").write_bytes(hashlib.sha256((path / "main.mlirb").read_bytes()).digest())


def test_what_apple_s_tools_show_is_filled_in(asset):
    found = converter.inspect(asset.path)
    assert found.metadata["author"].startswith("mobilevit-sdk ")
    assert found.metadata["classes"] == list(asset.spec.labels)
    assert "5 classes. image: float32 [1, 3, 36, 36], RGB in [0, 1]" in found.metadata["description"]
    assert found.metadata["producer"].startswith("coreai-core ")
    assert (found.backend, found.oldest_system) == (None, "iOS 27")
    assert converter.inspect(asset.path).inputs[0].dtype == converter.inspect(asset.path).outputs[0].dtype == "float32"


def test_operators_count_once_composites_under_their_name(asset):
    operators = converter.inspect(asset.path).operators
    assert operators["layer_norm"] == 5
    assert operators["softmax"] == 2
    assert not {"invoke", "constant", "output", ""} & set(operators)


def test_neither_this_machine_nor_the_hour_is_in_the_file(asset):
    content = (asset.path / "main.mlirb").read_bytes()
    assert str(Path(__file__).parents[3]).encode() not in content
    assert b".py" not in content
    assert "creationDate" not in json.loads((asset.path / "metadata.json").read_text())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": None}, "an image classifier with 5 classes"),
        ({"labels": None, "features": "map"}, "features: the last map of features"),
        ({"labels": ("cat",), "config": {"num_classes": 1}}, "the score of 'cat' before a sigmoid"),
    ],
)
def test_the_description_says_what_comes_out(asset, changes, words):
    config = {**asset.spec.config, **changes.pop("config", {})}
    labels = changes.pop("labels")
    spec = msgspec.structs.replace(asset.spec, labels=None)
    assert words in description(msgspec.structs.replace(spec, config=config, **changes, labels=labels))


def test_an_asset_of_another_tool_is_read_and_runs(copy, asset):
    edit(copy, lambda document: document.pop("creatorDefinedMetadata"))
    found = converter.inspect(copy)
    assert found.spec is None
    image = asset.reference.cases[0].image
    assert (runtime_of(converter).load(copy)(image) == runtime_of(converter).load(asset.path)(image)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "main.mlirb").write_bytes(b"x"), "the SHA-256 of main.mlirb is not the one in main.hash"),
        (lambda path: (path / "main.hash").unlink(), "main.hash is missing"),
        (lambda path: (path / "metadata.json").write_bytes(b"\xff{"), "metadata.json is malformed"),
        (lambda path: edit(path, lambda d: d["creatorDefinedMetadata"].update(mobilevit_sdk="{}")), "malformed model"),
        (lambda path: edit(path, lambda d: d["creatorDefinedMetadata"].update(mobilevit_sdk=[1])), "malformed model"),
        (
            lambda path: edit(path, lambda d: d["creatorDefinedMetadata"].update(mobilevit_sdk_backend="tpu")),
            "unknown backend 'tpu'",
        ),
    ],
)
def test_a_damaged_asset_is_refused_with_the_reason(copy, change, message):
    change(copy)
    with pytest.raises(ArtifactError, match=message) as refusal:
        converter.inspect(copy)
    assert str(copy) in str(refusal.value)


def test_a_file_outside_the_folder_is_not_read(copy, tmp_path):
    shutil.move(copy / "main.mlirb", tmp_path / "elsewhere")
    (copy / "main.mlirb").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="refers to a file outside itself"):
        read_asset(copy)


@pytest.mark.parametrize("content", [b"", b"ML\xefR", b"not a program at all" * 50])
def test_a_program_that_is_none_is_refused_though_its_hash_is_right(copy, content):
    (copy / "main.mlirb").write_bytes(content)
    seal(copy)
    with pytest.raises(ArtifactError) as refusal:
        converter.inspect(copy)
    assert "\n" not in str(refusal.value)
