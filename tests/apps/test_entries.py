"""Files of several input sizes in what is served and copied."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import numpy as np
import pytest
from device_reports import device_report, device_run
from phone_server import make_artifacts, stub_app

from mobilevit_sdk.apps.platforms import AppNames
from mobilevit_sdk.apps.readmes import readme
from mobilevit_sdk.apps.site import build_site
from mobilevit_sdk.artifacts.artifact import open_artifact, write_manifest
from mobilevit_sdk.artifacts.reference import write_reference
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.app_input import app_input_of
from mobilevit_sdk.formats.converter import TensorInfo
from mobilevit_sdk.formats.entries import Entry
from mobilevit_sdk.parity.device import device_runs
from mobilevit_sdk.parity.outcome import judge_runs

SIZES = ((32, 32), (32, 48), (48, 32))


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    """One with the sizes above, whose further ones have a case each."""
    stub_app(tmp_path / "app", monkeypatch)
    (made,) = make_artifacts(tmp_path, "one")
    manifest, reference, folder = made.manifest, made.reference(), made.path.parent
    spec = msgspec.structs.replace(manifest.spec, image_sizes=SIZES)
    entries = []
    for index, of_size in enumerate(spec.entries):
        height, width = size = of_size.preprocessing.image_size
        inputs = (TensorInfo(name="image", shape=(1, 3, height, width), dtype="float32"),)
        entries.append(
            Entry(
                name="forward" if index == 0 else f"image_{height}x{width}",
                image_size=size,
                app_input=app_input_of(inputs, of_size.preprocessing),
                inputs=inputs,
                outputs=manifest.outputs,
                operators={"conv": 3},
                delegates=1,
                undelegated_ops={},
            )
        )
    more = tuple(Case(f"zeros at {h}x{w}", np.zeros((3, h, w), np.uint8), role="edge") for h, w in SIZES[1:])
    answers = np.concatenate([reference.answers, reference.answers[: len(more)]])
    reference = dataclasses.replace(reference, cases=(*reference.cases, *more), answers=answers)
    write_manifest(folder, msgspec.structs.replace(manifest, schema=2, spec=spec, entries=tuple(entries)))
    write_reference(folder, reference, spec)
    return open_artifact(folder)


def test_a_file_of_several_sizes_is_served_with_its_entries(artifact):
    served = json.loads(build_site([artifact], takes_reports=True).pages["artifacts/one/manifest.json"].content)
    assert [each["name"] for each in served["entries"]] == ["forward", "image_32x48", "image_48x32"]


@pytest.mark.parametrize("place", [0, 2])
def test_an_entry_whose_input_is_not_that_of_the_spec_is_refused(artifact, place):
    document = msgspec.to_builtins(artifact.manifest)
    document["entries"][place]["app_input"]["range"] = [0.0, 255.0]
    (artifact.path.parent / "manifest.json").write_bytes(msgspec.json.encode(document))
    with pytest.raises(ArtifactError, match="its manifest was changed: app_input is not what spec says"):
        build_site([open_artifact(artifact.path.parent)], takes_reports=True)


def test_vectors_without_a_size_are_refused(artifact):
    first = msgspec.structs.replace(artifact.manifest.spec, image_sizes=msgspec.UNSET)
    reference = artifact.reference()
    few = dataclasses.replace(reference, cases=reference.cases[:-2], answers=reference.answers[:-2])
    write_reference(artifact.path.parent, few, first)
    with pytest.raises(ArtifactError, match="images_32x48"):
        build_site([artifact], takes_reports=True)


def test_two_runs_that_answer_every_entry_as_pytorch_agree(artifact):
    """The black images of two turned sizes have the same bytes."""
    report = device_report(artifact, device_run(artifact, accelerator="cpu"), device_run(artifact, accelerator="gpu"))
    assert judge_runs(device_runs(artifact, report)).passed


def test_a_projects_readme_names_the_sizes(artifact):
    assert "| 32x32, 32x48, 48x32 |" in readme("android", AppNames("Birds", "Birds", "org.birds"), [artifact])
