"""What the tests of the apps share."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_projects import as_format, make_artifact, write_demos

from mobilevit_sdk.apps import projects
from mobilevit_sdk.artifacts.artifact import Artifact


@pytest.fixture
def artifact(tmp_path) -> Artifact:
    return as_format(make_artifact(tmp_path / "converted" / "tiny-tflite-fp32"), "tflite")


@pytest.fixture
def demos(tmp_path, monkeypatch) -> Path:
    """Small demo apps in place of the real ones."""
    write_demos(tmp_path / "demos")
    monkeypatch.setattr(projects, "demo_folder", lambda name: tmp_path / "demos" / name)
    return tmp_path / "demos"
