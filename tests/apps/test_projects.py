"""`mobilevit apps`: what a written project holds, what is refused, and that nothing is half written or lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
from app_projects import HOSTILE_NAMES, as_format, files_of, make_artifact, make_package
from click.testing import CliRunner
from helpers import REPOSITORY

from mobilevit_sdk.apps import site
from mobilevit_sdk.apps.platforms import ANDROID, IOS, PLATFORMS, WEB
from mobilevit_sdk.apps.projects import RECORD, check_names, write_app_project
from mobilevit_sdk.artifacts.artifact import open_artifact
from mobilevit_sdk.cli import main
from mobilevit_sdk.demos import demo_folder


def test_android_project_holds_the_app_and_the_artifact_and_nothing_of_this_repository(artifact, demos, tmp_path):
    project = write_app_project("android", artifact, tmp_path / "birds", name="Bird Watch", app_id="org.birds.watch_2")
    inside = {f"app/src/main/assets/artifacts/tiny-tflite-fp32/{name}" for name in files_of(artifact.path.parent)}
    assert files_of(tmp_path / "birds") == inside | {
        "README.md",
        RECORD,
        "settings.gradle.kts",
        "gradlew",
        "core/src/main/kotlin/Core.kt",
        "app/build.gradle.kts",
        "app/src/main/res/values/strings.xml",
        "app/src/main/AndroidManifest.xml",
        "app/src/main/kotlin/dev/mobilevit/demo/ReportProvider.kt",
    }
    assert os.access(tmp_path / "birds/gradlew", os.X_OK)
    copied = open_artifact(tmp_path / "birds/app/src/main/assets/artifacts/tiny-tflite-fp32")
    assert copied.is_unchanged()
    assert copied.manifest == artifact.manifest
    gradle = (tmp_path / "birds/app/build.gradle.kts").read_text()
    assert 'applicationId = "org.birds.watch_2"' in gradle
    assert 'namespace = "dev.mobilevit.demo"' in gradle
    sources = tmp_path / "birds/app/src/main"
    for file in ("AndroidManifest.xml", "kotlin/dev/mobilevit/demo/ReportProvider.kt"):
        assert '"org.birds.watch_2.reports"' in (sources / file).read_text()
    assert 'rootProject.name = "BirdWatch"' in (tmp_path / "birds/settings.gradle.kts").read_text()
    record = json.loads((tmp_path / "birds" / RECORD).read_text())
    assert (record["platform"], record["name"], record["id"]) == ("android", "Bird Watch", "org.birds.watch_2")
    assert record["artifacts"] == {"tiny-tflite-fp32": artifact.manifest.sha256}
    assert project.names.identifier == "BirdWatch"


def test_ios_project_is_a_package_of_the_apps_name_with_the_artifacts_as_resources(demos, tmp_path):
    core_ml = make_package(tmp_path / "a/tiny-coreml-fp16")
    pte = as_format(make_artifact(tmp_path / "b/tiny-executorch-fp32"), "executorch", "xnnpack")
    write_app_project("ios", [core_ml, pte], tmp_path / "out", name="Bird Watch")
    package = tmp_path / "out/BirdWatch.swiftpm"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"BirdWatch.swiftpm", "README.md", RECORD}
    for given in (core_ml, pte):
        assert open_artifact(package / "App/Resources/artifacts" / given.path.parent.name).is_unchanged()
    assert 'let bundleIdentifier = "com.example.birdwatch"' in (package / "Package.swift").read_text()
    kit = (package / "MobileViTKit/Package.swift").read_text()
    assert "testTarget" not in kit
    assert kit.endswith("        ]),\n    ]\n)\n")
    assert not [path for path in files_of(package) if "Tests" in path or ".build" in path]


def test_ios_project_links_executorch_for_pte_files_alone_and_as_the_guide_says(demos, tmp_path):
    core_ml = make_package(tmp_path / "a/tiny-coreml-fp16")
    pte = as_format(make_artifact(tmp_path / "b/tiny-executorch-fp32"), "executorch", "xnnpack")
    guide = (REPOSITORY / "docs/guides/ios.md").read_text()
    for given, is_linked in (([core_ml], False), ([core_ml, pte], True)):
        write_app_project("ios", given, tmp_path / "out", force=True)
        package = tmp_path / "out/MobileViT.swiftpm"
        kit, app = (package / "MobileViTKit/Package.swift").read_text(), (package / "Package.swift").read_text()
        assert ("executorch" in kit, "-all_load" in app) == (is_linked, is_linked)
        assert ("fetches ExecuTorch" in (tmp_path / "out/README.md").read_text()) == is_linked
    added = [line.strip(" ,") for edit in IOS.edits_for["executorch"] for line in edit.value(None).splitlines()]
    assert [line for line in added if "backend_coreml" not in line and line not in guide] == []


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_reaches_the_phone_as_it_was_given(name, artifact, demos, tmp_path):
    write_app_project("android", artifact, tmp_path / "android", name=name)
    resources = ElementTree.parse(tmp_path / "android/app/src/main/res/values/strings.xml").getroot()
    text = resources[0].text
    assert text[0] == text[-1] == '"'
    assert re.search(r'(?<!\\)["\']', text[1:-1]) is None
    assert re.sub(r"\\(.)", r"\1", text[1:-1]) == name
    assert [child.tag for child in resources] == ["string", "string"]

    write_app_project("ios", make_package(tmp_path / "tiny-coreml-fp16"), tmp_path / "ios", name=name)
    (package,) = (tmp_path / "ios").glob("*.swiftpm")
    assert re.fullmatch(r"[A-Za-z]\w*", package.stem, re.ASCII)
    lines = (package / "Package.swift").read_text().splitlines()
    assert len(lines) == 3
    literal = re.fullmatch(r'let appName = "((?:[^"\\]|\\["\\])*)"', lines[0])
    assert re.sub(r"\\(.)", r"\1", literal[1]) == name
    names, page = check_names(WEB, name, None), "<title>MobileViT</title>"
    for edit in WEB.edits:
        page = edit.apply(page, names)
    assert ElementTree.fromstring(page).text == name


@pytest.mark.skipif(not shutil.which("aapt2"), reason="aapt2 is not installed")
def test_androids_own_compiler_reads_the_names(artifact, demos, tmp_path):
    for number, name in enumerate(HOSTILE_NAMES):
        project = tmp_path / f"project{number}"
        write_app_project("android", artifact, project, name=name)
        strings = project / "app/src/main/res/values/strings.xml"
        subprocess.run(["aapt2", "compile", "-o", str(project), str(strings)], check=True, capture_output=True)
        compiled = project / "values_strings.arsc.flat"
        dump = subprocess.run(
            ["aapt2", "dump", "apc", str(compiled)], check=True, capture_output=True, text=True
        ).stdout
        assert f'"{name}"' in dump


def test_the_readme_names_the_next_command_and_shows_labels_harmlessly(artifact, demos, tmp_path):
    write_app_project("android", artifact, tmp_path / "out", name="Birds | <b>")
    text = (tmp_path / "out/README.md").read_text()
    assert "# Birds \\| \\<b\\>" in text
    assert "$ gradle installDebug" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| tiny")]
    assert 'cat, dog, a "\\|" \\<b\\> and 2 more' in row


def test_the_command_says_what_it_wrote_and_what_comes_next(artifact, demos, tmp_path):
    arguments = ["apps", "android", "--artifact", str(artifact.path), "--out", str(tmp_path / "out"), "--name", "Birds"]
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "platform": "android",
        "path": str(tmp_path / "out"),
        "name": "Birds",
        "id": "com.example.birds",
        "artifacts": [{"name": "tiny-tflite-fp32", "format": "tflite", "precision": "fp32", "bytes": 12}],
        "next": "gradle installDebug",
    }
    assert "--force" in refused_by(arguments)
    shown = CliRunner().invoke(main, [*arguments, "--force"]).stdout
    assert "Birds (com.example.birds) for android with tiny-tflite-fp32" in " ".join(shown.split())
    assert f"next: cd {tmp_path / 'out'} && gradle installDebug" in " ".join(shown.split())


def refused_by(arguments: list[str]) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    return " ".join(done.stderr.split())


def test_web_project_is_the_page_that_phones_get_with_the_name_in_it(artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "web_files", lambda: demo_folder("web_demo") / "src")  # in place of the library
    write_app_project("web", artifact, tmp_path / "out", name="Bird & Watch")
    page = (tmp_path / "out/index.html").read_text()
    assert "<title>Bird &amp; Watch</title>" in page
    assert open_artifact(tmp_path / "out/artifacts/tiny-tflite-fp32").is_unchanged()
    assert json.loads((tmp_path / "out/artifacts/index.json").read_text()) == {
        "artifacts": [{"name": "tiny-tflite-fp32"}]
    }
    assert "Cross-Origin-Opener-Policy: same-origin" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=list(PLATFORMS))
def test_every_edit_finds_its_place_in_the_real_sources(platform):
    source, names = demo_folder(platform.demo), check_names(platform, "Birds", None)
    for edit in (*platform.edits, *(edit for edits in platform.edits_for.values() for edit in edits)):
        assert edit.value(names) in edit.apply((source / edit.file).read_text(), names)
        assert platform.takes(edit.file)


@pytest.mark.parametrize("platform", [ANDROID, IOS], ids=["android", "ios"])
def test_everything_that_the_real_app_is_built_of_is_taken(platform):
    source = demo_folder(platform.demo)
    files = [file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()]
    built_of = [file for file in files if re.search(r"/src/main/|/Sources/|/App/|gradle", file)]
    built_of = [file for file in built_of if not re.search(r"^maven/|(^|/)(target|\.build|build)/", file)]
    built_of = [file for file in built_of if not file.startswith(platform.artifacts)]
    assert [file for file in built_of if not platform.takes(file)] == []
    taken = [file for file in files if platform.takes(file)]
    assert [file for file in taken if re.search(r"[Tt]ests?/|pom\.xml|[Ss]tub|/target/", file)] == []
