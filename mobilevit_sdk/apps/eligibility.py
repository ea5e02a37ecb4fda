"""Which artifacts an app can take, whatever it runs on."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from mobilevit_sdk.artifacts.artifact import Artifact, Manifest
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.app_input import app_input_of
from mobilevit_sdk.formats.entries import Entry
from mobilevit_sdk.spec import Kind
from mobilevit_sdk.text import one_line

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # as file systems of phones, adb and addresses take it without quoting


def artifact_name(artifact: Artifact) -> str:
    """What apps call an artifact: its folder's name, also where it was given as `.`."""
    return artifact.path.parent.resolve().name


def refuse_rejected(artifacts: Sequence[Artifact]) -> None:
    """Raise ArtifactError for an artifact that does its task too badly to be shipped."""
    for artifact in artifacts:
        if artifact.rejected:
            shown = one_line(str(artifact.path.parent))
            raise ArtifactError(f"{shown} was rejected ({'; '.join(artifact.reasons)}); do not ship it")


def check_artifacts(artifacts: Sequence[Artifact], *, further: Collection[Kind] = ()) -> None:
    """Raise ArtifactError or RequestError for an artifact that no app can take, or not beside another one.

    An app feeds one image and shows the best classes, and knows each artifact by a name that every file system takes.
    `further` are the kinds of outputs that it takes beside those classes; with "boxes" among them, it shows what a
    detector finds instead.
    """
    taken: set[str] = set()
    for artifact in artifacts:
        manifest, shown, name = artifact.manifest, one_line(str(artifact.path.parent)), artifact_name(artifact)
        unknown = {output.kind for output in manifest.spec.outputs[1:]} - set(further)
        if not manifest.spec.num_queries or unknown:
            manifest.spec.require_scores("an app", alone=bool(unknown))
        if manifest.app_input is None:
            raise ArtifactError(f"{shown} does not say what an app feeds it (app_input is null); convert again")
        if not _feeds_as_said(manifest):
            raise ArtifactError(f"{shown}: its manifest was changed: app_input is not what spec says; convert again")
        if not re.fullmatch(_NAME, name, re.ASCII):
            raise ArtifactError(
                f"{shown}: rename the folder to letters, digits, `.`, `_` and `-`, for file systems of phones"
            )
        if name.lower() in taken:
            raise ArtifactError(f"two artifacts are in folders called {name!r}; rename one of them")
        taken.add(name.lower())
        artifact.reference()  # raises where the vectors are not what they should be


def _feeds_as_said(manifest: Manifest) -> bool:
    """Whether what an app feeds, each entry where there are several, is what the spec says."""
    entries: Sequence[Manifest | Entry] = manifest.entries or (manifest,)
    wanted = [
        app_input_of(entry.inputs, spec.preprocessing)
        for entry, spec in zip(entries, manifest.spec.entries, strict=True)
    ]
    return [entry.app_input for entry in entries] == wanted and manifest.app_input == wanted[0]
