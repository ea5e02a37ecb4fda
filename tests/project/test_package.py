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


def test_the_sdist_holds_the_license_and_the_readme(built):
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_the_installed_wheel_finds_its_weights_and_its_converters(built, tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(built[0])]
    subprocess.run(command, check=True, capture_output=True)
    program = (
        "import mobilevit_sdk; from mobilevit_sdk.checkpoints.source import open_source;"
        "from mobilevit_sdk.formats.converter import converters;"
        "print(mobilevit_sdk.__file__, open_source().spec.model, *converters())"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    file, model, *formats = done.stdout.split()
    assert Path(file).is_relative_to(site)
    assert (model, formats) == ("mobilevit_xxs", ["coreml", "executorch", "tflite"])
