"""The browser app with chosen artifacts as a table of pages: what a server may answer, and what an export holds.

All of it is read once. What is served later are these bytes: no path is ever made of a request, and a file that changes
meanwhile, or is a link to elsewhere, changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from mobilevit_sdk.apps.eligibility import artifact_name, check_artifacts
from mobilevit_sdk.apps.platforms import WEB
from mobilevit_sdk.artifacts.artifact import MANIFEST, Artifact, ArtifactLike, find_artifacts
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.demos import demo_folder
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.formats.inventory import web_files
from mobilevit_sdk.formats.runtime import WebRuntime

INDEX = "index.html"
REPORTS = "reports"  # where the app posts device reports, relative to its own address

# What a browser may be told that a file is; a file with any other suffix is not part of the app.
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
_BINARY = "application/octet-stream"
_NOT_OF_THE_APP = {"tests", "node_modules"}

# WebAssembly threads need a page that no other origin shares memory with; a page that opened by accident shows nothing.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval' blob:",
            "worker-src 'self' blob:",
            "style-src 'self'",
            "img-src 'self' blob: data:",
            "media-src 'self' blob:",
            "connect-src 'self' blob: data:",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Page:
    """What one address answers."""

    content: bytes
    content_type: str


@dataclass(frozen=True)
class Site:
    """The pages of the app by their path relative to its address, such as `artifacts/index.json`."""

    pages: dict[str, Page]
    artifacts: tuple[Artifact, ...]


def build_site(artifacts: Sequence[Artifact], *, takes_reports: bool) -> Site:
    """The app with these artifacts, each checked against its manifest; `takes_reports` is false for static files.

    Raises ArtifactError for an artifact that was changed or damaged or that no app can take, RequestError where the app
    is missing, and ToolchainError where the library that runs phone files in a browser is.
    """
    check_artifacts(artifacts, further=WEB.further_outputs)
    app = _files_of(demo_folder("web_demo"))
    if INDEX not in app:
        raise RequestError(f"{demo_folder('web_demo')} lacks {INDEX}; install mobilevit-sdk again, or use a clone")
    pages = app | {f"litert/{name}": page for name, page in _files_of(web_files()).items()}
    for artifact in artifacts:
        folder = f"artifacts/{artifact_name(artifact)}"
        pages |= {f"{folder}/{path}": page for path, page in _files_of_artifact(artifact).items()}
    pages["artifacts/index.json"] = _json({"artifacts": [{"name": artifact_name(each)} for each in artifacts]})
    pages["config.json"] = _json(
        {"reports": REPORTS if takes_reports else None, "app_version": version("mobilevit-sdk")}
    )
    return Site(pages, tuple(artifacts))


def find_web_artifacts(
    given: ArtifactLike | Sequence[ArtifactLike], say: Callable[[str], None] = lambda line: None
) -> list[Artifact]:
    """The artifacts that are given and that browsers run; `say` hears of the others.

    Raises ArtifactError as `find_artifacts` does, and where no browser runs any of them.
    """
    found = find_artifacts(given)
    served = [each for each in found if any(isinstance(runtime, WebRuntime) for runtime in each.converter.runtimes)]
    if not served:
        formats = " and ".join(sorted({each.manifest.format for each in found}))
        raise ArtifactError(
            f"browsers do not run {formats} files; give a tflite artifact (mobilevit convert --to tflite)"
        )
    if left_out := [artifact_name(each) for each in found if each not in served]:
        say(f"left out, because browsers do not run their formats: {', '.join(sorted(left_out))}")
    return served


def _files_of(folder: Path) -> dict[str, Page]:
    """The files of a web page below a folder, by relative path: none that is hidden, a link, or for developers."""
    pages = {}
    for file in sorted(_walk(folder)):
        content_type = CONTENT_TYPES.get(file.suffix)
        relative = file.relative_to(folder)
        is_package = file.name in ("package.json", "package-lock.json") and len(relative.parts) == 1
        if content_type and not is_package:
            pages[relative.as_posix()] = Page(file.read_bytes(), content_type)
    return pages


def _walk(folder: Path) -> Iterable[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and path.name not in _NOT_OF_THE_APP:
            yield from _walk(path)


def _files_of_artifact(artifact: Artifact) -> dict[str, Page]:
    """The three files; the bytes that are kept are those that were hashed."""
    folder = artifact.path.parent
    try:
        content = artifact.path.read_bytes()
        others = {name: (folder / name).read_bytes() for name in (MANIFEST, REFERENCE)}
    except OSError as error:
        raise ArtifactError(f"cannot read the artifact {folder}: {error.strerror or error}") from error
    artifact.require_unchanged((hashlib.sha256(content).hexdigest(), len(content)))
    return {
        MANIFEST: Page(others[MANIFEST], CONTENT_TYPES[".json"]),
        REFERENCE: Page(others[REFERENCE], _BINARY),
        artifact.manifest.file: Page(content, _BINARY),
    }


def _json(document: object) -> Page:
    return Page(json.dumps(document).encode(), CONTENT_TYPES[".json"])
