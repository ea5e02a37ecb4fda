"""`mobilevit push`: artifacts and their card to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

import click

from mobilevit_sdk.cli.card import FACTS
from mobilevit_sdk.cli.common import out, print_json, print_notes, verb


@verb("push", "Upload phone files and their card to the Hugging Face hub.")
@click.argument("artifacts", metavar="ARTIFACT_OR_DIR", type=click.Path(path_type=Path))
@click.argument("repository", metavar="ORG/NAME")
@FACTS[0]
@FACTS[1]
@click.option("--card", type=click.Path(path_type=Path), metavar="FILE", help="This card instead of one from facts.")
@click.option("--private", is_flag=True, help="Make the repository private, where there is none yet.")
@click.option("--dry-run", is_flag=True, help="Only list what would be uploaded.")
def command(
    artifacts: Path,
    repository: str,
    verdicts: Path | None,
    device_reports: tuple[Path, ...],
    card: Path | None,
    private: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Upload artifacts of one checkpoint, and their card, in one commit. The repository is made where there is none.

    A folder each: the phone file, manifest.json, reference.safetensors; every file is checked against its manifest,
    links are refused, and nothing else is read. The token is that of HF_TOKEN, or of `hf auth login`. JSON keys:
    "repository", "url" (null for --dry-run), "files" (a list of "path" and "bytes"), "notes".
    """
    from mobilevit_sdk.publishing.push import push

    pushed = push(
        artifacts,
        repository,
        card=card,
        verdicts=verdicts,
        device_reports=device_reports,
        private=private,
        dry_run=dry_run,
    )
    print_notes(pushed.notes)
    if as_json:
        files = [{"path": path, "bytes": size} for path, size in pushed.files.items()]
        notes = list(pushed.notes)
        print_json({"repository": repository, "url": pushed.url, "files": files, "notes": notes})
        return
    for path, size in pushed.files.items():
        out.print(f"{size / 1e6:9.3f} MB  {path}", markup=False)
    out.print(pushed.url or f"nothing was uploaded to {repository}: --dry-run", markup=False)
