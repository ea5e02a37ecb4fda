"""Wheel and sdist: what a user installs holds everything, and nothing that only developers need."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers import REPOSITORY

DEMOS = ("web_demo", "android_demo", "ios_demo")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True)  # the sdist, and the wheel from the sdist
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_wheel_holds_code_weights_and_templates_and_no_tests(built):
    names = zipfile.ZipFile(built[0]).namelist()
    expected = ["mobilevit_sdk/weights/mobilevit_xxs_cifar10.safetensors", "mobilevit_sdk/parity/report/page.html.j2"]
    expected += ["mobilevit_sdk/parity/report/style.css", "mobilevit_sdk/models/catalog.json"]
    expected += [
        "mobilevit_sdk/py.typed",
        "mobilevit_converters/executorch/runtimes/arm64_runner.cpp",
        "mobilevit_converters/py.typed",
    ]
    assert [name for name in expected if name not in names] == []
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "mobilevit_sdk",
        "mobilevit_converters",
    }
    roots = {REPOSITORY: "mobilevit_sdk", REPOSITORY / "converters": "mobilevit_converters"}
    sources = {
        str(path.relative_to(root)) for root, package in roots.items() for path in root.glob(f"{package}/**/*.py")
    }
    assert sources <= set(names)


def test_the_wheel_holds_the_sources_of_the_demo_apps_and_nothing_that_their_builds_leave(built):
    listed = subprocess.run(["git", "ls-files", *DEMOS], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a clone")
    names = zipfile.ZipFile(built[0]).namelist()
    held = {name.removeprefix("mobilevit_sdk/_demos/") for name in names if name.startswith("mobilevit_sdk/_demos/")}
    untracked = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard", *DEMOS], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert held == {*listed.stdout.split("\n"), *untracked.stdout.split("\n")} - {""}


def test_the_sdist_holds_the_license_and_the_readme(built):
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_the_installed_wheel_finds_its_weights_its_converters_and_the_demo_apps(built, tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(built[0])]
    subprocess.run(command, check=True, capture_output=True)
    program = (
        "import mobilevit_sdk; from mobilevit_sdk.checkpoints.source import open_source;"
        "from mobilevit_sdk.formats.converter import converters;"
        "from mobilevit_sdk.demos import demo_folder;"
        f"print(mobilevit_sdk.__file__, open_source().spec.model, *converters(), *map(demo_folder, {DEMOS}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    file, model, *formats_and_demos = done.stdout.split()
    assert Path(file).is_relative_to(site)
    assert (model, formats_and_demos[:3]) == ("mobilevit_xxs", ["coreml", "executorch", "tflite"])
    assert formats_and_demos[3:] == [str(Path(file).parent / "_demos" / demo) for demo in DEMOS]
