"""The ways in which `mutated_artifacts.py` damages an artifact: its file, and what is to prove it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mobilevit_sdk.artifacts.artifact import MANIFEST, Artifact, open_artifact
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.files import hash_and_size

# Damages the artifact in a folder; the originals are there to borrow from.
Mutation = Callable[[Path, random.Random, Sequence[Artifact]], None]


def _flip_bits(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    file = _part(folder, chance)
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def _flip_bits_of_the_head(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    file = _part(folder, chance)
    content = bytearray(file.read_bytes())
    content[chance.randrange(min(256, len(content)))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def _cut(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    file = _part(folder, chance)
    content = file.read_bytes()
    file.write_bytes(content[: chance.randrange(len(content))])


def _blank(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    file = _part(folder, chance)
    content = bytearray(file.read_bytes())
    start = chance.randrange(len(content))
    length = min(chance.choice((4, 64, 4096)), len(content) - start)
    content[start : start + length] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    file.write_bytes(content)


def _swap(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    """The file of another artifact under this one's name: of another network, format or precision."""
    path = open_artifact(folder).path
    other = chance.choice([other for other in others if name_of(other) != folder.name]).path
    _remove(path)
    (shutil.copytree if other.is_dir() else shutil.copyfile)(other, path)


def _falsify(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    """One field of the manifest, at any depth, says something else, or nothing."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    place = manifest
    while True:
        key = chance.choice(list(place))
        if not (isinstance(place[key], dict) and place[key]) or chance.random() < 0.3:
            break
        place = place[key]
    if chance.random() < 0.2:
        del place[key]
    else:
        falsehoods = (
            None,
            0,
            -1,
            1e308,
            "",
            "../secret",
            "/etc/passwd",
            "fp16",
            "fp32",
            "tflite",
            "coreml",
            [],
            {},
            "\x00",
            True,
        )
        place[key] = chance.choice(falsehoods)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _spoil_vectors(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    file = folder / REFERENCE
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 8, 64))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content[: chance.choice((len(content), chance.randrange(len(content))))])


def _other_vectors(folder: Path, chance: random.Random, others: Sequence[Artifact]) -> None:
    family = folder.name.partition("@")[0]
    other = chance.choice([other for other in others if name_of(other).partition("@")[0] != family])
    shutil.copyfile(other.path.parent / REFERENCE, folder / REFERENCE)


OF_FILE: dict[str, Mutation] = {
    "bits": _flip_bits,
    "bits of the head": _flip_bits_of_the_head,
    "cut": _cut,
    "a block overwritten": _blank,
    "another file": _swap,
}
OF_PROOF: dict[str, Mutation] = {
    "a false manifest": _falsify,
    "bits of the vectors": _spoil_vectors,
    "other vectors": _other_vectors,
}


def name_of(artifact: Artifact) -> str:
    """`family@artifact`: of the folders that hold it."""
    return f"{artifact.path.parent.parent.name}@{artifact.path.parent.name}"


def _part(folder: Path, chance: random.Random) -> Path:
    """A file of the phone file, which may be a folder."""
    path = open_artifact(folder).path
    return chance.choice(sorted(file for file in path.rglob("*") if file.is_file())) if path.is_dir() else path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def seal(folder: Path) -> None:
    """Make the manifest state the SHA-256 and the size of the damaged file."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["sha256"], manifest["bytes"] = hash_and_size(folder / manifest["file"])
    (folder / MANIFEST).write_text(json.dumps(manifest))
