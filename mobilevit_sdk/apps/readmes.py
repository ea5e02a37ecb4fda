"""What the README of a written project says: how to build it, what is inside, what to change."""

from __future__ import annotations

from collections.abc import Sequence

from mobilevit_sdk.apps.platforms import PLATFORMS, AppNames, PlatformName
from mobilevit_sdk.apps.site import HEADERS
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.spec import ModelSpec, in_pixels
from mobilevit_sdk.text import one_line

_BUILD: dict[PlatformName, str] = {
    "android": """Open this folder in Android Studio; or, with Gradle, the Android SDK and a phone attached:

```console
$ {next}
```
""",
    "ios": """On a Mac, open the package in Xcode 16 or newer and choose your team under Signing; on an iPad, open it in
Swift Playgrounds:

```console
$ {next}
```
""",
    "web": """Static files: copy this folder to any web server, or try it here and open http://127.0.0.1:8000:

```console
$ {next}
```

A page opened from the disk (`file:`) does not work: browsers load no modules from there. WebGPU and the live camera
need https or localhost. Threads, which make WebAssembly faster, also need the first two of these headers; the others
keep the page to its own files:

```text
{headers}
```

Serve `.wasm` as `application/wasm` and `.js` as `text/javascript`.
""",
}

_LINKED = """
Xcode fetches ExecuTorch, which the .pte files need; Swift Playgrounds does not build it.
"""

_IDS: dict[PlatformName, str] = {
    "android": "Its application id is `{id}`, in `app/build.gradle.kts`; stores refuse those below `com.example`.",
    "ios": "Its bundle identifier is `{id}`, in `Package.swift`; stores refuse those below `com.example`.",
    "web": "Its name is the title in `index.html`.",
}


def next_step(platform: PlatformName, names: AppNames) -> str:
    """The command that follows, run in the project's folder."""
    return {
        "android": "gradle installDebug",
        "ios": f"open {names.identifier}.swiftpm",
        "web": "python3 -m http.server --bind 127.0.0.1",
    }[platform]


def readme(platform: PlatformName, names: AppNames, artifacts: Sequence[Artifact]) -> str:
    """The README of a project, in Markdown."""
    headers = "\n".join(f"{name}: {value}" for name, value in HEADERS.items() if name != "Cache-Control")
    folder = PLATFORMS[platform].artifacts.replace("MobileViTDemo", names.identifier)
    more = (
        ", and their names in `index.json`"
        if platform == "web"
        else "; another converted folder beside them is listed too"
    )
    has_pte = any(artifact.manifest.format == "executorch" for artifact in artifacts)
    linked = _LINKED if platform == "ios" and has_pte else ""
    rows = "\n".join(_row(artifact) for artifact in artifacts)
    return f"""# {_plain(names.shown)}

It classifies photographs and the live camera on the device, and compares each artifact there with PyTorch's answers.

## Build

{_BUILD[platform].format(next=next_step(platform, names), headers=headers)}{linked}
## Artifacts

In `{folder}/`{more}.

| name | file | size | input, height x width | classes |
| --- | --- | --- | --- | --- |
{rows}

"Verify" in the app runs the reference vectors and shares a device report, which
`mobilevit verify ARTIFACT --device-report FILE` judges.

## Make it yours

{_IDS[platform].format(id=names.id)}

The sources are the demo app of mobilevit-sdk, under the Apache License 2.0; the models have licenses of their own, in
each `manifest.json`. The app was tested without a phone: verify each artifact on yours.
"""


def _row(artifact: Artifact) -> str:
    manifest = artifact.manifest
    cells = (
        artifact.path.parent.resolve().name,
        manifest.file,
        f"{manifest.bytes / 1e6:.1f} MB",
        ", ".join(map(in_pixels, manifest.spec.sizes)),
        _classes(manifest.spec),
    )
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _classes(spec: ModelSpec) -> str:
    if spec.labels is None:
        return f"{spec.num_classes}, without labels"
    more = "" if len(spec.labels) < 4 else f" and {len(spec.labels) - 3} more"
    return ", ".join(one_line(label, 40) for label in spec.labels[:3]) + more


def _plain(text: str) -> str:
    """As it reads in Markdown, whatever it holds."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|&~" else c for c in one_line(text))
