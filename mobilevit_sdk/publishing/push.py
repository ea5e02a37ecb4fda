"""Artifacts to a repository of the Hugging Face hub: the files of their manifests, and a card, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.artifacts.artifact import MANIFEST, Artifact, ArtifactLike
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.parity.device import DeviceReportLike
from mobilevit_sdk.publishing.card import CARD, render
from mobilevit_sdk.publishing.facts import collect_facts
from mobilevit_sdk.text import one_line

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True)
class Pushed:
    """What was uploaded, or with `dry_run` would be: path in the repository -> bytes. `url` is None for the latter."""

    repository: str
    url: str | None
    files: dict[str, int]
    notes: tuple[str, ...]


def push(
    artifacts: ArtifactLike | Sequence[ArtifactLike],
    repository: str,
    *,
    card: Path | str | None = None,
    verdicts: Path | str | None = None,
    device_reports: DeviceReportLike | Sequence[DeviceReportLike] = (),
    private: bool = False,
    dry_run: bool = False,
) -> Pushed:
    """Upload artifacts of one checkpoint to `organization/name`, which is made where there is none, in one commit.

    A folder each: the phone file, its manifest, its reference vectors; and README.md, the file `card` or what
    `model_card` makes of `verdicts` and `device_reports`. Files are copied first and the copies checked against the
    manifests; links are refused, and nothing else in the folders is read. The token is the hub library's own (HF_TOKEN,
    or `hf auth login`). Raises ArtifactError for a changed file or a link, and RequestError for a rejected artifact, a
    wrong name, and what the hub refuses.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise RequestError(f"{one_line(repository)!r} names no repository; write organization/name")
    facts = collect_facts(artifacts, verdicts=verdicts, device_reports=device_reports)
    names = [artifact.path.parent.resolve().name for artifact in facts.artifacts]
    if len(set(names)) < len(names):
        raise RequestError("two of these artifacts have folders of the same name; rename one of the folders")
    for artifact in facts.artifacts:
        if artifact.rejected:
            raise RequestError(f"{artifact.path.parent} was rejected when it was converted: it is not uploaded")
    with tempfile.TemporaryDirectory(prefix="mobilevit-push-") as folder:
        staged = Path(folder)
        for name, artifact in zip(names, facts.artifacts, strict=True):
            _stage(artifact, staged / name)
        text = _read_card(Path(card)) if card else render(facts, repository)
        (staged / CARD).write_text(text, encoding="utf-8")
        files = {
            path.relative_to(staged).as_posix(): path.stat().st_size
            for path in sorted(staged.rglob("*"))
            if path.is_file()
        }
        url = None if dry_run else _upload(staged, repository, private)
    return Pushed(repository, url, files, facts.notes)


def _stage(artifact: Artifact, target: Path) -> None:
    """A copy of what belongs to an artifact, which is what its manifest describes."""
    folder = artifact.path.parent
    extras = (extra.file for extra in artifact.manifest.extras or ())
    for name in (artifact.manifest.file, MANIFEST, REFERENCE, *extras):
        for source, relative in _regular_files(folder / name, Path(name)):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            _copy(source, target / relative)
    copied = Artifact(target / artifact.manifest.file, artifact.manifest)
    copied.require_unchanged(hash_and_size(copied.path))
    copied.reference()


def _regular_files(path: Path, relative: Path) -> Iterator[tuple[Path, Path]]:
    """The files at a path, one or those of a package folder; whatever else is there is refused, links above all."""
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror or error}); convert again") from error
    if stat.S_ISREG(mode):
        yield path, relative
    elif stat.S_ISDIR(mode):
        for each in sorted(path.iterdir()):
            yield from _regular_files(each, relative / each.name)
    else:
        raise ArtifactError(f"{path} is a link or no file: only files that lie in the folder are uploaded")


def _copy(source: Path, target: Path) -> None:
    descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as stream, target.open("wb") as copy:
        shutil.copyfileobj(stream, copy)


def _read_card(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_CARD_BYTES + 1)
        if len(content) > MAX_CARD_BYTES:
            raise RequestError(f"{path} is larger than a card may be ({MAX_CARD_BYTES >> 20} MiB)")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read the card {path}: {getattr(error, 'strerror', None) or error}") from error


def _upload(staged: Path, repository: str, private: bool) -> str:
    from huggingface_hub import HfApi

    api = HfApi(library_name="mobilevit-sdk")
    with in_one_line(repository):
        api.create_repo(repository, private=private or None, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=staged, commit_message="Artifacts of mobilevit-sdk, and their card"
        )
    return str(commit.repo_url)


@contextmanager
def in_one_line(repository: str) -> Iterator[None]:
    """What the hub refuses within the block, as a RequestError."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise RequestError("the hub wants a token: set HF_TOKEN, or run `hf auth login`") from error
    except HFValidationError as error:
        raise RequestError(f"{repository} names no repository; write organization/name") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            remedy = "set HF_TOKEN to a token that may write there, or run `hf auth login`"
            raise RequestError(f"the hub does not let you write to {repository} ({status}): {remedy}") from error
        raise RequestError(f"the hub refused {repository}: {_reason(error)}") from error
    except (OSError, ValueError) as error:  # httpx's errors of connections are OSErrors of the hub's library
        raise RequestError(f"cannot upload to {repository}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return one_line(str(error).strip() or type(error).__name__, 300)
