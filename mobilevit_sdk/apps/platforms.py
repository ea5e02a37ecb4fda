"""What each demo app is made of: what a project of its own takes of it, and the few places that name the app."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal
from xml.sax.saxutils import escape

from mobilevit_sdk.demos import Demo
from mobilevit_sdk.spec import Kind

PlatformName = Literal["android", "ios", "web"]

# What builds leave in the folders of a clone. Part of the sources of no app.
_BUILD_OUTPUTS = {"target", "build", ".gradle", ".kotlin", ".build", ".swiftpm", ".idea", "node_modules", ".DS_Store"}


@dataclass(frozen=True)
class AppNames:
    """How a project is called: `shown` under its icon, `identifier` in code and file names, `id` in the store."""

    shown: str
    identifier: str
    id: str | None


@dataclass(frozen=True)
class Edit:
    """A place in the sources: what `pattern` finds between its two groups becomes another value."""

    file: str
    pattern: str  # found exactly once
    value: Callable[[AppNames], str]

    def apply(self, text: str, names: AppNames) -> str:
        """`text` with the value in place. Raises ValueError where the pattern is not found exactly once."""
        edited, found = re.subn(self.pattern, lambda match: match[1] + self.value(names) + match[2], text)
        if found != 1:
            raise ValueError(f"{self.file} has {found} places that match {self.pattern!r}, expected 1")
        return edited


@dataclass(frozen=True)
class Platform:
    """One demo app. Paths are relative to its sources, with `/`."""

    name: PlatformName
    demo: Demo
    runs: Mapping[str, frozenset[str | None]]  # format -> backends of its files
    artifacts: str  # the folder for artifacts
    edits: tuple[Edit, ...]
    left_out: tuple[str, ...] = ()  # patterns of files that only this repository needs
    removed: tuple[tuple[str, str], ...] = ()  # file, pattern of text that needs what is left out
    edits_for: Mapping[str, tuple[Edit, ...]] = field(default_factory=dict)  # format -> what its files need beside
    id_pattern: str | None = None
    id_rule: str = ""
    further_outputs: tuple[Kind, ...] = ()  # kinds of outputs that it takes beside class scores

    def takes(self, path: str) -> bool:
        """Whether a file of the demo belongs into a project."""
        if _BUILD_OUTPUTS & set(path.split("/")) or path.startswith(f"{self.artifacts}/"):
            return False
        return not any(fnmatchcase(path, pattern) for pattern in self.left_out)

    def describe_formats(self) -> str:
        """For people: `executorch (xnnpack) and tflite`."""
        named = []
        for format_name, backends in sorted(self.runs.items()):
            known = sorted(filter(None, backends))
            named.append(f"{format_name} ({' or '.join(known)})" if known else format_name)
        return " and ".join(named)


def _android_string(text: str) -> str:
    """As the text of a string resource, which has escapes of its own, and in quotes keeps its spaces."""
    return '"' + escape(text.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'")) + '"'


def _swift_string(text: str) -> str:
    """As what stands between the quotes of a Swift literal."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _id(names: AppNames) -> str:
    return names.id or ""


ANDROID = Platform(
    further_outputs=("scores", "boxes"),
    name="android",
    demo="android_demo",
    runs={"tflite": frozenset({None}), "executorch": frozenset({"xnnpack"})},
    artifacts="app/src/main/assets/artifacts",
    edits=(
        Edit(
            "app/src/main/res/values/strings.xml",
            r'(<string name="app_name")[^<]*(</string>)',
            lambda names: f' translatable="false">{_android_string(names.shown)}',  # so that % is not a format
        ),
        Edit("app/build.gradle.kts", r'(applicationId = ")[^"]*(")', _id),
        # Two apps on one phone may not provide the same name.
        Edit(
            "app/src/main/AndroidManifest.xml", r'(android:authorities=")[^"]*(")', lambda names: f"{names.id}.reports"
        ),
        Edit(
            "app/src/main/kotlin/dev/mobilevit/demo/ReportProvider.kt",
            r'(const val AUTHORITY = ")[^"]*(")',
            lambda names: f"{names.id}.reports",
        ),
        Edit("settings.gradle.kts", r'(rootProject\.name = ")[^"]*(")', lambda names: names.identifier),
    ),
    left_out=("README.md", "maven/*", "apk/*", "*pom.xml", "*.sh", "*.py", "*/src/test/*"),
    id_pattern=r"[A-Za-z]\w*(\.[A-Za-z]\w*)+",
    id_rule="two or more parts with dots between them, each of letters, digits and _, beginning with a letter",
)

_APP = "MobileViTDemo.swiftpm"
_KIT = f"{_APP}/MobileViTKit"
# As docs/guides/ios.md says it.
_EXECUTORCH = """, dependencies: [
            .product(name: "executorch", package: "executorch"),
            .product(name: "backend_xnnpack", package: "executorch"),
            .product(name: "backend_coreml", package: "executorch"),
            .product(name: "kernels_optimized", package: "executorch"),
        ]"""
_EXECUTORCH_PACKAGE = """\
    dependencies: [.package(url: "https://github.com/pytorch/executorch.git", branch: "swiftpm-1.4.1")],
"""
_LINK_ALL = """,
            linkerSettings: [
                .unsafeFlags(["-Xlinker", "-all_load"]),
                .linkedFramework("Accelerate"),
                .linkedFramework("CoreImage"),
            ]"""

IOS = Platform(
    further_outputs=("scores", "boxes"),
    name="ios",
    demo="ios_demo",
    runs={"coreml": frozenset({None, "ane"}), "executorch": frozenset({"xnnpack", "coreml"})},
    artifacts=f"{_APP}/App/Resources/artifacts",
    edits=(
        Edit(
            f"{_APP}/Package.swift",
            r'(let appName = ")[^"]*(")',
            lambda names: _swift_string(names.shown),
        ),
        Edit(f"{_APP}/Package.swift", r'(let bundleIdentifier = ")[^"]*(")', _id),
    ),
    left_out=("README.md", "stubs/*", "*.sh", "*/Tests/*"),
    removed=(
        (
            f"{_KIT}/Package.swift",
            r"(?m)^ *\.testTarget\((?:[^()]|\([^()]*\))*\),?\n",
        ),
    ),
    edits_for={
        "executorch": (
            Edit(f"{_KIT}/Package.swift", r"(\n)(    targets: \[\n)", lambda names: _EXECUTORCH_PACKAGE),
            Edit(f"{_KIT}/Package.swift", r'(\.target\(name: "MobileViTKit")(\),)', lambda names: _EXECUTORCH),
            Edit(
                f"{_APP}/Package.swift",
                r'(resources: \[\.copy\("Resources/artifacts"\)\])(\n)',
                lambda names: _LINK_ALL,
            ),
        )
    },
    id_pattern=r"[A-Za-z][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)+",
    id_rule="two or more parts with dots between them, of letters, digits and -, beginning with a letter",
)

WEB = Platform(
    further_outputs=("scores", "features", "boxes"),
    name="web",
    demo="web_demo",
    runs={"tflite": frozenset({None})},
    artifacts="artifacts",
    # The page shows its title as its name.
    edits=(Edit("index.html", r"(<title>)[^<]*(</title>)", lambda names: escape(names.shown)),),
)

PLATFORMS: dict[PlatformName, Platform] = {each.name: each for each in (ANDROID, IOS, WEB)}
