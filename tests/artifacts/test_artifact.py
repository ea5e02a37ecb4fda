"""Artifacts on disk: what is beside the file, and what hostile folders get."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from helpers import tiny_model, tiny_spec, write_artifact
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.artifacts.artifact import MANIFEST, find_artifacts, inspect_artifact, open_artifact
from mobilevit_sdk.artifacts.quantization_record import Judgment
from mobilevit_sdk.artifacts.reference import REFERENCE, read_reference, reference_of
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.errors import ArtifactError, MobileViTError
from mobilevit_sdk.files import hash_and_size


@pytest.fixture(scope="module")
def reference():
    model, spec = tiny_model()
    return reference_of(model, spec.preprocessing, builtin_cases(spec.preprocessing)[-9:])


@pytest.fixture
def artifact(tmp_path, reference):
    return write_artifact(tmp_path / "one", tiny_spec(), reference)


def test_reference_vectors_come_back_as_they_were(artifact, reference):
    found = artifact.reference()
    assert [case.name for case in found.cases] == [case.name for case in reference.cases]
    assert [case.contiguous for case in found.cases] == [case.contiguous for case in reference.cases]
    assert not found.cases[-1].contiguous
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found.cases, reference.cases, strict=True))
    assert np.array_equal(found.answers, reference.answers)


def test_a_file_its_folder_and_the_folder_above_name_the_same_artifact(artifact, tmp_path, reference):
    for path in (artifact.path, artifact.path.parent, tmp_path):
        assert [found.path for found in find_artifacts([path])] == [artifact.path]
    write_artifact(tmp_path / "two", tiny_spec(), reference)
    assert len(find_artifacts([tmp_path, artifact.path])) == 2


def test_a_changed_file_is_noticed(artifact):
    assert artifact.is_unchanged()
    artifact.path.write_bytes(b"a phone filf")
    assert not artifact.is_unchanged()


def test_the_hash_of_a_package_depends_on_names_and_contents(tmp_path):
    package = tmp_path / "package"
    (package / "a").mkdir(parents=True)
    (package / "a" / "one").write_bytes(b"12")
    (package / "two").write_bytes(b"3")
    first, size = hash_and_size(package)
    assert size == 3
    (package / "two").rename(package / "three")
    assert hash_and_size(package)[0] != first


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "folder/file",
        "missing.fake",
        ".",
        "..",
        "",
        "a\\b",
        "C:",
        pytest.param("a" * 5000, id="too long"),
    ],
)
def test_a_manifest_cannot_point_outside_its_folder(artifact, name):
    manifest = artifact.path.parent / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "file": name}))
    with pytest.raises(ArtifactError, match="not in its folder"):
        open_artifact(artifact.path.parent)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"bytes": "many"}, "Expected `int`"),
        ({"surprise": 1}, "unknown field"),
        ({"spec": {"model": "x"}}, "missing required field"),
        ({"spec": {"provenance": 0}}, "nested too deeply"),
    ],
)
def test_a_malformed_manifest_says_what_is_wrong(artifact, change, match):
    manifest = artifact.path.parent / MANIFEST
    changed = json.dumps({**json.loads(manifest.read_text()), **change})
    manifest.write_text(changed.replace('{"provenance": 0}', '{"provenance": {"a": ' + "[" * 100_000))
    with pytest.raises(ArtifactError, match=match):
        open_artifact(artifact.path.parent)


@given(data=st.data())
def test_damaged_reference_vectors_are_refused(data, tmp_path_factory, reference):
    folder = tmp_path_factory.mktemp("damaged")
    artifact = write_artifact(folder / "one", tiny_spec(), reference)
    path = artifact.path.parent / REFERENCE
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ArtifactError):
        artifact.reference()


def test_reference_vectors_of_another_model_are_refused(artifact):
    path = artifact.path.parent / REFERENCE
    with pytest.raises(ArtifactError, match="expected 7 classes"):
        read_reference(path, tiny_spec(num_classes=7))
    with pytest.raises(ArtifactError, match="expected uint8"):
        read_reference(path, tiny_spec(image_size=64))


def test_what_is_no_artifact_says_so(tmp_path):
    (tmp_path / "file.txt").write_text("text")
    for path, match in (
        (tmp_path / "missing", "does not exist"),
        (tmp_path, "holds no artifact"),
        (tmp_path / "file.txt", "holds no artifact"),
    ):
        with pytest.raises(ArtifactError, match=match):
            find_artifacts([path])
    with pytest.raises(MobileViTError, match="ends in"):
        inspect_artifact(tmp_path / "file.txt")


def test_a_judgment_from_before_the_sqnr_of_all_images_still_reads():
    old = {
        "runtime": "litert-cpu",
        "images": 64,
        "agreement": 0.98,
        "min_agreement": 0.93,
        "worst_sqnr_db": 9.0,
        "median_sqnr_db": 21.0,
        "top1_float": None,
        "top1": None,
        "rejected": False,
    }
    judgment = msgspec.convert(old, Judgment)
    assert judgment.in_words().endswith("worst image 9.0 dB, on litert-cpu")
