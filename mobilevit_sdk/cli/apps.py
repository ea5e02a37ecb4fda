"""`mobilevit apps`: a project of one's own, with artifacts inside."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import out, print_json, verb

if TYPE_CHECKING:
    from mobilevit_sdk.apps.platforms import PlatformName


@verb("apps", "Write an Android, iOS or web app with artifacts inside.")
@click.argument("platform", type=click.Choice(["android", "ios", "web"]))
@click.option(
    "--artifact",
    "artifacts",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A converted file, or the folder that holds one or several; may be repeated.",
)
@click.option(
    "--out", "folder", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The project's folder."
)
@click.option("--name", default="MobileViT", show_default=True, help="What the phone shows below the icon.")
@click.option("--id", "app_id", metavar="APP.ID", help="The application id.  [default: com.example. and the name]")
@click.option("--force", is_flag=True, help="Replace a project that was written there before.")
def command(
    platform: PlatformName,
    artifacts: tuple[Path, ...],
    folder: Path,
    name: str,
    app_id: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write an app project with artifacts inside; its README says how to build it.

    Android Studio or Gradle opens the one for android (.tflite, and .pte for XNNPACK), Xcode or Swift Playgrounds that
    for ios (.mlpackage and .pte), and any web server serves that for web (.tflite). The JSON document holds "platform",
    "path", "name", "id" (null for web), "artifacts" (with "name", "format", "precision" and "bytes") and "next", the
    command to run there.
    """
    from mobilevit_sdk.apps.eligibility import artifact_name
    from mobilevit_sdk.apps.projects import write_app_project
    from mobilevit_sdk.apps.readmes import next_step

    project = write_app_project(platform, artifacts, folder, name=name, app_id=app_id, force=force)
    following = next_step(platform, project.names)
    rows = [
        {
            "name": artifact_name(artifact),
            "format": artifact.manifest.format,
            "precision": artifact.manifest.precision,
            "bytes": artifact.manifest.bytes,
        }
        for artifact in project.artifacts
    ]
    if as_json:
        print_json(
            {
                "platform": platform,
                "path": str(folder),
                "name": project.names.shown,
                "id": project.names.id,
                "artifacts": rows,
                "next": following,
            }
        )
        return
    inside = ", ".join(str(row["name"]) for row in rows)
    called = f"{project.names.shown} ({project.names.id})" if project.names.id else project.names.shown
    out.print(f"{folder}: {called} for {platform} with {inside}", markup=False)
    out.print(f"next: cd {shlex.quote(str(folder))} && {following}", markup=False)
