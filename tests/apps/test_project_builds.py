"""Written projects are right for the compilers of their languages, as far as those run here."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from app_projects import HOSTILE_NAMES, as_format, make_artifact, make_package
from swift_tools import swift_or_skip

from mobilevit_sdk.apps.projects import write_app_project
from mobilevit_sdk.demos import demo_folder

PACKAGE = "MobileViTDemo.swiftpm"


@pytest.mark.slow
def test_a_written_ios_project_type_checks_with_the_lines_that_link_executorch(tmp_path):
    swift, ios = swift_or_skip(), demo_folder("ios_demo")
    pte = as_format(make_artifact(tmp_path / "tiny-executorch-fp32"), "executorch", "xnnpack")
    write_app_project("ios", pte, tmp_path / "out", name=HOSTILE_NAMES[0])
    (package,) = (tmp_path / "out").glob("*.swiftpm")
    shutil.copytree(ios, tmp_path / "ios_demo", ignore=shutil.ignore_patterns(PACKAGE, ".build"))
    package.rename(tmp_path / "ios_demo" / PACKAGE)
    done = subprocess.run([*swift, "./typecheck.sh"], cwd=tmp_path / "ios_demo", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "both Package.swift: no errors" in done.stdout


@pytest.mark.slow
def test_swiftpm_takes_a_written_ios_project_without_its_tests(tmp_path):
    swift = swift_or_skip()
    write_app_project("ios", make_package(tmp_path / "tiny-coreml-fp16"), tmp_path / "out")
    kit = tmp_path / "out/MobileViT.swiftpm/MobileViTKit"
    described = subprocess.run([*swift, "swift", "package", "describe"], cwd=kit, capture_output=True, text=True)
    assert described.returncode == 0, described.stderr
    assert "MobileViTDemoLogic" in described.stdout
    assert "Tests" not in described.stdout
