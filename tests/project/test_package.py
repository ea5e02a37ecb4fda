"""Wheel and sdist: what a user installs holds everything, and nothing that only developers need."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from app_projects import as_format, make_artifact
from helpers import REPOSITORY

from mobilevit_sdk.artifacts.artifact import open_artifact
from mobilevit_sdk.formats.converter import converters

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


def test_the_sdist_holds_everything_that_the_repository_does(built):
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    expected = {name for name in listed.stdout.splitlines() if (REPOSITORY / name).exists()}
    assert expected | {"LICENSE", "README.md", "pyproject.toml", "hatch_build.py", "tests/conftest.py"} <= names


def test_the_wheel_is_small_enough_to_fetch_in_passing(built):
    assert built[0].stat().st_size < 5e6


def test_a_second_build_elsewhere_and_later_gives_the_same_bytes(built, tmp_path):
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (copy,) = tmp_path.iterdir()
    (copy / "PKG-INFO").unlink()  # then it is as a clone
    for path in copy.rglob("*.py"):
        os.utime(path, (2e9, 2e9))  # a clone's files are as old as the clone
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "again"), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    for file in built:
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_the_metadata_says_what_it_is_for_whom_and_under_which_license(built):
    found = metadata_of(built[0])
    classifiers = found.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    pythons = [each.rpartition(" ")[2] for each in classifiers if re.fullmatch(r".*Python :: 3\.\d+", each)]
    assert pythons == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    assert (found["License-Expression"], found["Requires-Python"]) == ("Apache-2.0", ">=3.10")
    assert found["Author"]
    assert found.get_payload().strip() == (REPOSITORY / "README.md").read_text().strip()
    assert found.get_all("Project-URL") is None  # a build at home belongs to no repository


def test_the_page_of_a_release_links_to_its_repository_and_shows_its_pictures(monkeypatch):
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", REPOSITORY / "hatch_build.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    url, found = "https://example.org/some/mobilevit-sdk", {"version": "1.2.3"}
    monkeypatch.setenv("MOBILEVIT_REPOSITORY", url)
    module.RepositoryHook(str(REPOSITORY), {}).update(found)
    assert found["urls"]["Repository"] == url
    assert found["urls"]["Changelog"] == f"{url}/blob/v1.2.3/CHANGELOG.md"
    links = re.findall(r"""\]\(([^)]+)|(?:src|srcset)="([^"]+)""", found["readme"]["text"])
    targets = [link or picture for link, picture in links]
    assert len(targets) > 20
    assert [target for target in targets if not target.startswith("https://")] == []
    assert f"{url}/raw/v1.2.3/docs/pictures/pipeline-dark.svg" in targets


@pytest.fixture(scope="module")
def site(built, tmp_path_factory):
    """A folder for PYTHONPATH with the wheel installed, and nothing of the clone."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(built[0])], check=True, capture_output=True)
    return folder


def run_from(site: Path, program: str, *arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_installed_wheel_finds_its_weights_its_converters_and_the_demo_apps(site, tmp_path):
    program = (
        "import mobilevit_sdk; from mobilevit_sdk.checkpoints.source import open_source;"
        "from mobilevit_sdk.formats.converter import converters;"
        "from mobilevit_sdk.demos import demo_folder;"
        f"print(mobilevit_sdk.__file__, open_source().spec.model, *converters(), *map(demo_folder, {DEMOS}))"
    )
    file, model, *formats_and_demos = run_from(site, program, cwd=tmp_path).split()
    assert Path(file).is_relative_to(site)
    assert (model, formats_and_demos[: -len(DEMOS)]) == ("mobilevit_xxs", [*sorted(converters())])
    assert formats_and_demos[-len(DEMOS) :] == [str(Path(file).parent / "_demos" / demo) for demo in DEMOS]


@pytest.mark.parametrize(
    ("platform", "format_name", "backend"), [("android", "tflite", None), ("ios", "executorch", "xnnpack")]
)
def test_the_installed_wheel_writes_app_projects(platform, format_name, backend, site, tmp_path):
    artifact = as_format(make_artifact(tmp_path / "tiny"), format_name, backend)
    arguments = ("apps", platform, "--artifact", str(artifact.path), "--out", "app", "--name", "Birds", "--json")
    printed = json.loads(run_from(site, "from mobilevit_sdk.cli import main; main()", *arguments, cwd=tmp_path))
    assert printed["id"] == "com.example.birds"
    (manifest,) = (tmp_path / "app").rglob("artifacts/tiny/manifest.json")
    assert open_artifact(manifest.parent).is_unchanged()
