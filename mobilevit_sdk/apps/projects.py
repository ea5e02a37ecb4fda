"""An app project of one's own: a demo app's sources with artifacts inside, named and ready to open."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from mobilevit_sdk.apps.eligibility import artifact_name, check_artifacts, refuse_rejected
from mobilevit_sdk.apps.platforms import PLATFORMS, AppNames, Platform, PlatformName
from mobilevit_sdk.apps.readmes import readme
from mobilevit_sdk.artifacts.artifact import MANIFEST, Artifact, ArtifactLike, find_artifacts
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.demos import demo_folder
from mobilevit_sdk.errors import ArtifactError, RequestError, suggest
from mobilevit_sdk.files import hash_and_size, replacing
from mobilevit_sdk.text import one_line

RECORD = "mobilevit-app.json"  # tells a project that this command wrote from other folders
DEFAULT_NAME = "MobileViT"
MAX_NAME = 50  # characters; home screens show about 12
_MAX_ID = 150


@dataclass(frozen=True)
class Project:
    """A project that was written."""

    platform: PlatformName
    path: Path
    names: AppNames
    artifacts: tuple[Artifact, ...]


def write_app_project(
    platform: PlatformName,
    artifacts: ArtifactLike | Sequence[ArtifactLike],
    out: Path | str,
    *,
    name: str = DEFAULT_NAME,
    app_id: str | None = None,
    force: bool = False,
) -> Project:
    """Write an app with these artifacts inside into the folder `out`, whole or not at all.

    `name` is what the phone shows. `app_id` tells the app from all others on a phone and in a store; by default it is
    made of the name, below com.example. `force` replaces a project that was written into `out` before. Raises
    RequestError for an unknown platform, a name or id that will not do, and an `out` that holds something else,
    ArtifactError for artifacts that are rejected, damaged or nothing for the platform, and ToolchainError where the web
    page's library is missing.
    """
    if platform not in PLATFORMS:
        raise RequestError(f"no app for {platform!r}; {suggest(platform, PLATFORMS)}")
    kind, out = PLATFORMS[platform], Path(out)
    names = check_names(kind, name, app_id)
    found = find_artifacts(artifacts)
    _check_artifacts(kind, found)
    _check_out(out, force)
    with replacing(out) as fresh:
        if platform == "web":
            _write_pages(found, fresh)
        else:
            _write_sources(kind, fresh)
            for artifact in found:
                _copy_artifact(artifact, fresh / kind.artifacts)
        formats = {artifact.manifest.format for artifact in found}
        for edit in (*kind.edits, *(edit for each in sorted(formats) for edit in kind.edits_for.get(each, ()))):
            _rewrite(fresh / edit.file, partial(edit.apply, names=names))
        for file, pattern in kind.removed:
            _rewrite(fresh / file, partial(re.sub, pattern, ""))
        if platform == "ios":
            (fresh / "MobileViTDemo.swiftpm").rename(fresh / f"{names.identifier}.swiftpm")
        (fresh / "README.md").write_text(readme(platform, names, found), encoding="utf-8")
        (fresh / RECORD).write_text(json.dumps(_record(platform, names, found), indent=2) + "\n", encoding="utf-8")
    return Project(platform, out, names, tuple(found))


def check_names(platform: Platform, name: str, app_id: str | None) -> AppNames:
    """The names of an app. Raises RequestError for one that its platform or a person would stumble over."""
    shown = name.strip(" ")
    if not shown or not shown[0].isalnum() or not shown.isprintable() or set(shown) & set("/\\:"):
        raise RequestError(
            f"{one_line(name)!r} cannot name an app: begin with a letter or digit, and use no / \\ : or control codes"
        )
    if len(shown) > MAX_NAME:
        raise RequestError(f"the app's name has {len(shown)} characters; give at most {MAX_NAME}")
    words = re.findall(r"[A-Za-z0-9]+", shown)
    identifier = "".join(word[0].upper() + word[1:] for word in words)
    if not identifier or identifier[0].isdigit():
        identifier = f"App{identifier}"
    if platform.id_pattern is None:
        if app_id is not None:
            raise RequestError(f"an app for {platform.name} has no application id; leave it out")
        return AppNames(shown, identifier, None)
    app_id = f"com.example.{identifier.lower()}" if app_id is None else app_id
    if not re.fullmatch(platform.id_pattern, app_id, re.ASCII) or len(app_id) > _MAX_ID:
        raise RequestError(
            f"{one_line(app_id)!r} is not an application id: {platform.id_rule}, such as com.example.birds"
        )
    return AppNames(shown, identifier, app_id)


def _check_artifacts(platform: Platform, artifacts: Sequence[Artifact]) -> None:
    for artifact in artifacts:
        manifest, folder = artifact.manifest, artifact.path.parent
        shown = one_line(str(folder))
        if manifest.backend not in platform.runs.get(manifest.format, ()):
            made_for = f" for {one_line(manifest.backend)}" if manifest.backend else ""
            raise ArtifactError(
                f"{shown}: the {platform.name} app runs {platform.describe_formats()} files, "
                f"not {one_line(manifest.format)}{made_for}; convert to one of those"
            )
    refuse_rejected(artifacts)
    check_artifacts(artifacts, further=platform.further_outputs)


def _check_out(out: Path, force: bool) -> None:
    if Path.cwd().is_relative_to(out.resolve()):  # which would be gone from under the shell
        raise RequestError(f"{out} is the folder that you are in; give one below it as `out`, such as app")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / RECORD).is_file():
        raise RequestError(f"{out} holds something else; give another `out` folder")
    if not force:
        raise RequestError(f"{out} holds an app already; give another `out` folder, or `force` to replace it")


def _write_sources(platform: Platform, fresh: Path) -> None:
    source = demo_folder(platform.demo)
    for file in sorted(source.rglob("*")):
        path = file.relative_to(source).as_posix()
        if file.is_file() and not file.is_symlink() and platform.takes(path):
            target = fresh / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            target.chmod(file.stat().st_mode & 0o777 | 0o600)  # gradlew is executable


def _copy_artifact(artifact: Artifact, folder: Path) -> None:
    """Copy the three parts; what was copied is what the manifest describes. Raises ArtifactError where it is not."""
    target = folder / artifact_name(artifact)
    target.mkdir(parents=True)
    for name in (MANIFEST, REFERENCE, artifact.manifest.file):
        _copy(artifact.path.parent / name, target / name)
    artifact.require_unchanged(hash_and_size(target / artifact.manifest.file))


def _copy(source: Path, target: Path) -> None:
    """A file or a package, without following a link out of it."""
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    for file in files:
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise ArtifactError(f"{file} is a link or a special file, which is no part of an artifact; convert again")
        if file.is_file():
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _write_pages(artifacts: Sequence[Artifact], fresh: Path) -> None:
    from mobilevit_sdk.apps.export import export_site
    from mobilevit_sdk.apps.site import build_site

    export_site(build_site(artifacts, takes_reports=False), fresh)


def _rewrite(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")


def _record(platform: PlatformName, names: AppNames, artifacts: Sequence[Artifact]) -> dict[str, object]:
    return {
        "written_by": f"mobilevit-sdk {version('mobilevit-sdk')}",
        "platform": platform,
        "name": names.shown,
        "id": names.id,
        "artifacts": {artifact_name(each): each.manifest.sha256 for each in artifacts},
    }
