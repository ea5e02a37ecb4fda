"""What is served and exported: the app, the library and the chosen artifacts, and no other file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from phone_server import make_artifacts, stub_app

from mobilevit_sdk.apps.export import export_site
from mobilevit_sdk.apps.phone import export_web_app
from mobilevit_sdk.apps.site import HEADERS, build_site, find_web_artifacts
from mobilevit_sdk.artifacts.artifact import open_artifact
from mobilevit_sdk.errors import ArtifactError, RequestError

APP = {
    "artifacts/index.json",
    "artifacts/one/manifest.json",
    "artifacts/one/mobilevit_xxs.fake",
    "artifacts/one/reference.safetensors",
    "config.json",
    "index.html",
    "litert/core/index.js",
    "litert/core/package.json",
    "litert/wasm/litert.wasm",
    "src/app.js",
    "src/style.css",
}


@pytest.fixture
def artifact(tmp_path):
    return make_artifacts(tmp_path, "one")[0]


@pytest.fixture(autouse=True)
def app(tmp_path, monkeypatch):
    return stub_app(tmp_path / "app", monkeypatch)


def test_the_site_is_the_app_its_library_and_the_three_files_of_each_artifact(artifact):
    site = build_site([artifact], takes_reports=True)
    assert set(site.pages) == APP
    assert json.loads(site.pages["config.json"].content) == {"reports": "reports", "app_version": "0.1.0"}
    assert site.pages["litert/wasm/litert.wasm"].content_type == "application/wasm"
    assert site.pages["src/app.js"].content_type.startswith("text/javascript")


def test_what_is_served_are_the_bytes_that_were_checked_whatever_becomes_of_the_file(artifact):
    site = build_site([artifact], takes_reports=True)
    artifact.path.write_bytes(b"something else")
    assert site.pages["artifacts/one/mobilevit_xxs.fake"].content == b"phone file 0"


def test_links_out_of_the_app_are_not_part_of_it(artifact, app, tmp_path):
    (tmp_path / "secret.json").write_text("{}", encoding="utf-8")
    (app / "web_demo/link.json").symlink_to(tmp_path / "secret.json")
    (app / "web_demo/folder").symlink_to(tmp_path)
    assert set(build_site([artifact], takes_reports=True).pages) == APP


def test_a_link_that_stands_for_an_artifacts_file_is_refused_unless_it_is_that_file(artifact, tmp_path):
    elsewhere = tmp_path / "store"
    artifact.path.rename(elsewhere)
    artifact.path.symlink_to(elsewhere)
    assert build_site([artifact], takes_reports=True).pages["artifacts/one/mobilevit_xxs.fake"].content
    artifact.path.unlink()
    artifact.path.symlink_to("/etc/hostname" if os.path.exists("/etc/hostname") else __file__)  # noqa: PTH110
    with pytest.raises(ArtifactError, match="not the file that its manifest describes"):
        build_site([artifact], takes_reports=True)


@pytest.mark.parametrize("name", ["mobilevit_xxs.fake", "reference.safetensors"])
@pytest.mark.parametrize("content", [b"", b"another file"])
def test_a_damaged_artifact_is_refused_in_one_line(name, content, artifact):
    (artifact.path.parent / name).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        build_site([open_artifact(artifact.path.parent)], takes_reports=True)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_artifacts_in_folders_of_one_name_are_refused(tmp_path):
    twins = [make_artifacts(tmp_path / name, "same")[0] for name in ("a", "b")]
    with pytest.raises(ArtifactError, match="two artifacts are in folders called 'same'"):
        build_site(twins, takes_reports=True)


@pytest.mark.parametrize("name", ["two words", "..hidden", "über", "a;b", "%2e"])
def test_names_that_no_page_or_phone_takes_are_refused(name, artifact, tmp_path):
    shutil.copytree(artifact.path.parent, tmp_path / name)
    with pytest.raises(ArtifactError, match="rename the folder"):
        build_site([open_artifact(tmp_path / name)], takes_reports=True)


def test_formats_that_no_browser_runs_are_left_out_and_refused_alone(artifact, monkeypatch):
    assert find_web_artifacts([artifact]) == [artifact]

    class Converter:
        runtimes = ()

    monkeypatch.setattr("mobilevit_sdk.artifacts.artifact.find_converter", lambda *name: Converter)
    with pytest.raises(ArtifactError, match="browsers do not run fake files"):
        find_web_artifacts([artifact])


def test_an_export_is_the_same_tree_without_an_address_for_reports(artifact, tmp_path):
    out = tmp_path / "export"
    assert export_web_app(artifact, out) == [artifact]
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == APP | {"README.md"}
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["reports"] is None
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "- one\n" in readme
    assert all(f"{name}: {value}" in readme for name, value in HEADERS.items() if name != "Cache-Control")


def test_an_export_replaces_an_earlier_one_and_nothing_else(artifact, tmp_path):
    out = tmp_path / "export"
    site = build_site([artifact], takes_reports=False)
    export_site(site, out)
    (out / "src/old.js").write_text("", encoding="utf-8")
    export_site(site, out)
    assert not (out / "src/old.js").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("", encoding="utf-8")
    (tmp_path / "file").write_text("", encoding="utf-8")
    for other in ("mine", "file"):
        with pytest.raises(RequestError, match="holds something else"):
            export_site(site, tmp_path / other)
    assert (tmp_path / "mine/notes.txt").exists()


@pytest.mark.parametrize("given", [".", "..", "../inner"])
def test_the_folder_that_one_is_in_is_not_replaced(artifact, tmp_path, monkeypatch, given):
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(RequestError, match="is the folder that you are in"):
        export_site(build_site([artifact], takes_reports=False), Path(given))
    assert not list((tmp_path / "inner").iterdir())


def test_an_export_that_fails_leaves_nothing(artifact, tmp_path, monkeypatch):
    site = build_site([artifact], takes_reports=False)
    monkeypatch.setattr("mobilevit_sdk.apps.export._readme", lambda site: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_site(site, tmp_path / "export")
    assert not (tmp_path / "export").exists()
    assert not list(tmp_path.glob(".export*"))
