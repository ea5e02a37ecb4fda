"""Small demo apps, and artifacts of real formats that hold nothing, for the tests of `mobilevit apps`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from helpers import tiny_spec, write_artifact

from mobilevit_sdk.artifacts.artifact import Artifact, open_artifact, write_manifest
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.formats.app_input import app_input_of

# Names that are no harm to people, and to careless writers of XML, Swift, Kotlin, Gradle and Markdown are.
HOSTILE_NAMES = [
    'Tom\'s "Birds" & <Bees>',
    'A" ; import Foundation; let x = "',
    "100% sure %d %s",
    "1 {{app}} ${HOME} $(id) `id`",
    "Bird-Watch | [a](b) *c* _d_ #e",
    "A]]><!-- --> B",
    "Vögel & 鳥",
    "a'" * 25,
]

KIT_MANIFEST = """let package = Package(
    targets: [
        .target(name: "MobileViTKit"),
        .testTarget(
            name: "KitTests",
            dependencies: ["Kit", .product(name: "X", package: "Y")],
            path: "Tests/KitTests"
        ),
    ]
)
"""
SOURCES = {
    "android_demo": {
        "README.md": "# The demo",
        "settings.gradle.kts": 'rootProject.name = "mobilevit-demo"\ninclude(":app", ":core")\n',
        "gradlew": "#!/bin/sh\n",
        "pom.xml": "<project/>",
        "maven/stub/Stub.kt": "",
        "core/pom.xml": "<project/>",
        "core/src/main/kotlin/Core.kt": "package dev.mobilevit.core\n",
        "core/src/test/kotlin/CoreTest.kt": "",
        "app/build.gradle.kts": 'android {\n    namespace = "dev.mobilevit.demo"\n'
        '    defaultConfig { applicationId = "dev.mobilevit.demo" }\n}\n',
        "app/src/main/res/values/strings.xml": '<resources>\n    <string name="app_name">'
        'MobileViT</string>\n    <string name="verify">Verify</string>\n</resources>\n',
        "app/src/main/AndroidManifest.xml": '<provider android:authorities="dev.mobilevit.demo.reports"/>',
        "app/src/main/kotlin/dev/mobilevit/demo/ReportProvider.kt": 'private const val AUTHORITY = "x.reports"\n',
        "apk/build.sh": "",
        "app/src/main/assets/artifacts/of-the-demo/manifest.json": "{}",
        "app/target/classes/App.class": "",
        "app/build/outputs/app.apk": "",
        "local.sh": "",
    },
    "ios_demo": {
        "README.md": "# The demo",
        "stubs/CoreML/CoreML.swift": "",
        "swift-on-debian.sh": "",
        "MobileViTDemo.swiftpm/Package.swift": 'let appName = "MobileViT"\n'
        'let bundleIdentifier = "dev.mobilevit.demo"\n'
        'resources: [.copy("Resources/artifacts")]\n',
        "MobileViTDemo.swiftpm/App/App.swift": "import SwiftUI\n",
        "MobileViTDemo.swiftpm/MobileViTKit/Package.swift": KIT_MANIFEST,
        "MobileViTDemo.swiftpm/MobileViTKit/Sources/Kit/Kit.swift": "",
        "MobileViTDemo.swiftpm/MobileViTKit/Tests/KitTests/KitTests.swift": "",
        "MobileViTDemo.swiftpm/MobileViTKit/.build/debug/Kit.o": "",
    },
}


def as_format(artifact: Artifact, format_name: str, backend: str | None = None, **changes: object) -> Artifact:
    """The same folder as an artifact of a real format, which an app takes."""
    manifest = artifact.manifest
    changes = {"app_input": app_input_of(manifest.inputs, manifest.spec.preprocessing), **changes}
    manifest = msgspec.structs.replace(manifest, format=format_name, backend=backend, **changes)
    write_manifest(artifact.path.parent, manifest)
    return open_artifact(artifact.path.parent)


def make_artifact(folder: Path) -> Artifact:
    spec = msgspec.structs.replace(tiny_spec(), labels=("cat", "dog", 'a "|" <b>\n', "x", "y"))
    image = np.zeros((3, *spec.preprocessing.image_size), np.uint8)
    return write_artifact(folder, spec, Reference((Case("zeros", image),), np.zeros((1, 5), np.float32)))


def make_package(folder: Path) -> Artifact:
    """An artifact whose file is a package, as CoreML's."""
    artifact = make_artifact(folder)
    artifact.path.unlink()
    (artifact.path / "Data").mkdir(parents=True)
    (artifact.path / "Data" / "weight.bin").write_bytes(b"weights")
    (artifact.path / "Manifest.json").write_bytes(b"{}")
    sha256, size = hash_and_size(artifact.path)
    return as_format(artifact, "coreml", sha256=sha256, bytes=size)


def files_of(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def write_demos(folder: Path) -> None:
    for demo, files in SOURCES.items():
        for path, content in files.items():
            file = folder / demo / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
    (folder / "android_demo/gradlew").chmod(0o755)
