"""`mobilevit apps`: what is refused, in one line, and that nothing is half written or lost."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from app_projects import as_format, files_of, make_artifact, make_package
from helpers import tiny_spec

from mobilevit_sdk.apps import projects
from mobilevit_sdk.apps.platforms import ANDROID, IOS, WEB
from mobilevit_sdk.apps.projects import RECORD, check_names, write_app_project
from mobilevit_sdk.artifacts.artifact import MANIFEST, open_artifact
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.files import hash_and_size


@pytest.mark.parametrize(
    "name", ["", "  ", "../x", "a/b", "a\\b", "a:b", "@string/x", "?attr", "-x", "a\nb", "a\0b", "a\u202eb", "x" * 51]
)
def test_a_name_that_files_or_people_stumble_over_is_refused(name, artifact, demos, tmp_path):
    with pytest.raises(RequestError) as error:
        write_app_project("android", artifact, tmp_path / "out", name=name)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "app_id", ["", "birds", "org.", ".org", "org.1a", "org.a-b", "org.a b", "órg.a", "a.b\n", "a." + "b" * 150]
)
def test_an_id_that_android_refuses_is_refused(app_id):
    with pytest.raises(RequestError, match="application id"):
        check_names(ANDROID, "Birds", app_id)


def test_ids_of_ios_take_hyphens_and_no_underscores_and_a_page_has_none():
    assert check_names(IOS, "Birds", "org.bird-watch.2").id == "org.bird-watch.2"
    for platform, app_id in ((IOS, "org.bird_watch"), (WEB, "org.birds")):
        with pytest.raises(RequestError):
            check_names(platform, "Birds", app_id)
    assert check_names(IOS, "鳥 2", None) == projects.AppNames("鳥 2", "App2", "com.example.app2")


def test_what_a_platform_does_not_run_is_refused_in_one_line(artifact, demos, tmp_path):
    core_ml = make_package(tmp_path / "tiny-coreml-fp16")
    pte = as_format(make_artifact(tmp_path / "tiny-executorch-coreml-fp16"), "executorch", "coreml")
    for platform, given, words in (
        ("android", core_ml, "the android app runs executorch (xnnpack) and tflite files, not coreml"),
        ("android", pte, "not executorch for coreml"),
        ("ios", artifact, "the ios app runs coreml (ane) and executorch (coreml or xnnpack) files, not tflite"),
        ("web", pte, "the web app runs tflite files"),
    ):
        with pytest.raises(ArtifactError, match=re.escape(words)) as error:
            write_app_project(platform, [given], tmp_path / "out")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_damaged_foreign_and_unfit_artifacts_are_refused_and_nothing_is_left(artifact, demos, tmp_path):
    def with_changes(name: str, **changes: object) -> Path:
        return as_format(make_artifact(tmp_path / name), "tflite", **changes).path.parent

    changed = with_changes("changed")
    open_artifact(changed).path.write_bytes(b"a phone fils")
    no_vectors = with_changes("no-vectors")
    (no_vectors / REFERENCE).unlink()
    cut = with_changes("cut")
    (cut / REFERENCE).write_bytes((cut / REFERENCE).read_bytes()[:-4])
    package = make_package(tmp_path / "linked").path
    (package / "Data/secret").symlink_to("/etc/hostname")
    sha256, size = hash_and_size(package)
    as_format(open_artifact(package.parent), "coreml", sha256=sha256, bytes=size)
    features = msgspec.structs.replace(tiny_spec(), features="pooled", labels=None)
    fed = artifact.manifest.app_input
    brighter = msgspec.structs.replace(fed, range=(0.0, 255.0))
    sharper = msgspec.structs.replace(fed, resizing=msgspec.structs.replace(fed.resizing, filter="bicubic"))
    assert sharper != fed
    for platform, folder, words in (
        ("android", changed, "size or SHA-256"),
        ("android", no_vectors, "is missing"),
        ("android", cut, "does not hold reference vectors"),
        ("ios", package.parent, "is a link"),
        ("android", with_changes("no-input", app_input=None), "app_input is null"),
        ("android", with_changes("range", app_input=brighter), "app_input is not what spec says"),
        ("android", with_changes("filter", app_input=sharper), "app_input is not what spec says"),
        ("android", with_changes("features", spec=features), "class scores"),
        ("android", with_changes("a b"), "rename the folder"),
        ("android", demos, "holds no artifact"),
        ("android", tmp_path / "nowhere", "does not exist"),
    ):
        with pytest.raises(RequestError, match=words) as error:
            write_app_project(platform, folder, tmp_path / "out")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob("*.partial"))


def test_two_artifacts_of_one_name_are_refused(artifact, demos, tmp_path):
    twin = as_format(make_artifact(tmp_path / "other/Tiny-TFLite-fp32"), "tflite")  # the same on a Mac's disk
    with pytest.raises(ArtifactError, match="two artifacts"):
        write_app_project("android", [artifact, twin], tmp_path / "out")


def test_a_project_is_replaced_only_by_force_and_other_folders_never(artifact, demos, tmp_path):
    out = tmp_path / "out"
    write_app_project("android", artifact, out, name="First")
    with pytest.raises(RequestError, match="holds an app already"):
        write_app_project("android", artifact, out, name="Second")
    assert "First" in (out / RECORD).read_text()
    (demos / "android_demo/settings.gradle.kts").write_text("no name here")
    with pytest.raises(ValueError, match=r"settings\.gradle\.kts has 0 places"):
        write_app_project("android", artifact, out, name="Second", force=True)
    assert "First" in (out / RECORD).read_text()
    (demos / "android_demo/settings.gradle.kts").write_text('rootProject.name = "x"')
    write_app_project("android", artifact, out, name="Second", force=True)
    assert "Second" in (out / RECORD).read_text()
    for content in ({"photo.jpg": ""}, {MANIFEST: "{}"}):
        folder = tmp_path / f"own{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
        with pytest.raises(RequestError, match="holds something else"):
            write_app_project("android", artifact, folder, force=True)
        assert files_of(folder) == set(content)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RequestError, match="holds something else"):
        write_app_project("android", artifact, file, force=True)


def test_an_unknown_platform_is_refused_with_those_that_there_are(artifact, tmp_path):
    with pytest.raises(RequestError, match="no app for 'andriod'; did you mean android"):
        write_app_project("andriod", artifact, str(tmp_path / "out"))


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_the_folder_that_one_is_in_is_not_replaced(out, artifact, demos, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(RequestError, match="is the folder that you are in"):
        write_app_project("android", artifact, out, force=True)
    assert (tmp_path / "here").is_dir()
