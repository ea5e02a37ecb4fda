"""What the Android app's builds and guide say twice is said alike."""

from __future__ import annotations

import re
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

import pytest

from mobilevit_sdk.demos import demo_folder

GUIDE = Path(__file__).parents[2] / "docs/guides/android.md"
ANDROID = demo_folder("android_demo")


def maven_versions(module: str) -> dict[str, str]:
    text = (ANDROID / module / "pom.xml").read_text()
    return dict(re.findall(r"<artifactId>([^<]+)</artifactId>\s*<version>([^<]+)</version>", text))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_gradle_and_maven_build_with_the_same_kotlin_and_runtimes() -> None:
    import tomllib

    catalog = tomllib.loads((ANDROID / "gradle/libs.versions.toml").read_text())
    pinned = {
        library["module"].split(":")[1]: catalog["versions"][library["version"]["ref"]]
        for library in catalog["libraries"].values()
    }
    assert f"<kotlin.version>{catalog['versions']['kotlin']}<" in (ANDROID / "pom.xml").read_text()
    compared = 0
    for module in ("maven/tensorflow-lite", "maven/executorch"):
        for artifact, found in maven_versions(module).items():
            if artifact in pinned:
                assert found == pinned[artifact], artifact
                compared += 1
    assert compared == 4
    names = re.findall(r"\(libs\.([a-z.]+)\)", (ANDROID / "app/build.gradle.kts").read_text())
    assert len(names) >= 7
    for name in names:
        kind, _, rest = name.partition(".")
        section, key = (catalog["plugins"], rest) if kind == "plugins" else (catalog["libraries"], name)
        assert key.replace(".", "-") in section, name


def test_the_app_has_the_sdks_version() -> None:
    release = version("mobilevit-sdk")
    assert f'versionName = "{release}"' in (ANDROID / "app/build.gradle.kts").read_text()
    assert f"--version-name {release}" in (ANDROID / "app/resources.sh").read_text()


def test_the_guides_kotlin_is_code_that_compiles() -> None:
    blocks = re.findall(r"^```kotlin\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    compiled = (ANDROID / "app/src/test/kotlin/dev/mobilevit/demo/Snippets.kt").read_text()
    assert len(blocks) == 2
    for block in blocks:
        assert textwrap.indent(block.replace("\n\n", "\n"), "    ") in compiled.replace("\n\n", "\n")


def test_the_guide_names_files_that_are_there() -> None:
    sources = {path.name for path in ANDROID.rglob("*.kt")}
    text = GUIDE.read_text()
    rows = "".join(re.findall(r"^\| `[^|]+\|", text, re.MULTILINE))
    names = re.findall(r"`([A-Z]\w+)(?:\.kt)?`", rows) + re.findall(r"`([A-Z]\w+)\.kt`", text)
    assert len(names) > 10
    for name in names:
        assert f"{name}.kt" in sources, name
