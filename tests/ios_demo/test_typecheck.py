"""The type check of the iOS app finds wrong calls, and what it checks against covers what the app imports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from swift_tools import swift_or_skip

from mobilevit_sdk.demos import demo_folder

IOS = demo_folder("ios_demo")
APP = "MobileViTDemo.swiftpm"
GUIDE = IOS.parent / "docs/guides/ios.md"
# In every Swift, also on Linux, or the app's own.
OTHER_MODULES = {"Foundation", "Observation", "Dispatch", "Glibc", "Darwin", "MobileViTKit", "MobileViTDemoLogic"}
SNIPPET = re.compile(r"^```swift\n(.*?)^```$", re.DOTALL | re.MULTILINE)

WRONG_CALLS = """
import AVFoundation
import SwiftUI
import Vision

func wrongLabel(_ device: AVCaptureDevice) throws -> AVCaptureDeviceInput { try AVCaptureDeviceInput(camera: device) }
func missingAwait() -> Bool { AVCaptureDevice.requestAccess(for: .video) }
func wrongType(_ request: VNCoreMLRequest) { request.regionOfInterest = 0.5 }
struct NoView: View { var body: some View { 5 } }
"""


def copy_of_the_app(folder: Path) -> Path:
    shutil.copytree(IOS, folder / "ios_demo", ignore=shutil.ignore_patterns(".build", "Tests"))
    (folder / "docs/guides").mkdir(parents=True)
    shutil.copy(GUIDE, folder / "docs/guides")
    return folder / "ios_demo"


def typecheck(folder: Path, swift: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*swift, "./typecheck.sh"], cwd=folder, capture_output=True, text=True, timeout=3600)


@pytest.mark.slow
def test_wrong_calls_in_the_app_are_found(tmp_path):
    swift = swift_or_skip()
    ios = copy_of_the_app(tmp_path)
    planted = ios / APP / "App/Planted.swift"
    planted.write_text(WRONG_CALLS)
    done = typecheck(ios, swift)
    assert done.returncode != 0
    errors = re.findall(r"^(\S+):(\d+):\d+: error: (.*)$", done.stderr, re.MULTILINE)
    assert {file for file, _, _ in errors} == {f"{APP}/App/Planted.swift"}
    lines = WRONG_CALLS.splitlines()
    found = {lines[int(number) - 1].split("(")[0].split(":")[0]: words for _, number, words in errors}
    assert "incorrect argument label" in found["func wrongLabel"]
    assert "'async' call" in found["func missingAwait"]
    assert "CGRect" in found["func wrongType"]
    assert "View" in found["struct NoView"]


@pytest.mark.slow
def test_a_data_race_in_the_app_is_found(tmp_path):
    swift = swift_or_skip()
    ios = copy_of_the_app(tmp_path)
    race = "func share(_ session: AVCaptureSession) { Task { @MainActor in session.stopRunning() } }"
    (ios / APP / "App/Planted.swift").write_text(f"import AVFoundation\n{race}\n")
    done = typecheck(ios, swift)
    assert done.returncode != 0
    assert re.search(r"^\S+/Planted\.swift:2:\d+: error: .*(data race|cannot be sent)", done.stderr, re.M), done.stderr


@pytest.mark.slow
def test_a_wrong_snippet_is_found_at_its_line_of_the_guide(tmp_path):
    swift = swift_or_skip()
    ios = copy_of_the_app(tmp_path)
    guide = tmp_path / "docs/guides/ios.md"
    right, wrong = "try module.load(", "try module.open("
    guide.write_text(guide.read_text().replace(right, wrong))
    (number,) = [number for number, line in enumerate(guide.read_text().splitlines(), 1) if wrong in line]
    done = typecheck(ios, swift)
    assert done.returncode != 0
    assert "the kit and the app: no errors" in done.stdout
    assert re.search(rf"^\.\./docs/guides/ios\.md:{number}:\d+: error: .*'open'", done.stderr, re.MULTILINE), (
        done.stderr
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_on_a_mac_the_stubs_are_left_alone(tmp_path):
    uname = tmp_path / "uname"
    uname.write_text("#!/bin/sh\necho Darwin\n")
    uname.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([IOS / "typecheck.sh"], env={"PATH": path}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Xcode" in done.stdout


def test_every_module_that_is_imported_has_a_stub():
    sources = [file.read_text() for file in (IOS / APP).rglob("*.swift") if not {"Tests", ".build"} & set(file.parts)]
    if GUIDE.exists():
        sources += SNIPPET.findall(GUIDE.read_text())
    imported = {name for source in sources for name in re.findall(r"^(?:@\w+ )?import (\w+)", source, re.MULTILINE)}
    assert {"SwiftUI", "AVFoundation", "CoreML", "Vision", "ExecuTorch", "CoreAI"} <= imported
    stubs = {folder.name for folder in (IOS / "stubs").iterdir() if folder.is_dir()}
    assert imported - OTHER_MODULES - {"PackageDescription"} <= stubs
    script = (IOS / "typecheck.sh").read_text()
    assert [stub for stub in sorted(stubs) if stub not in script] == []


def test_the_guide_has_a_snippet_of_each_way():
    snippets = SNIPPET.findall(GUIDE.read_text())
    for module in ("CoreML", "Vision", "ExecuTorch", "CoreAI"):
        assert any(f"import {module}\n" in each for each in snippets), module
