"""Where a reader finds what a fuzzer made: in a file, a container whose checksums are right, or a folder."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reader_seeds import Seeds


def _one_of(folder: Path, content: bytes, whole: Mapping[str, bytes]) -> Path:
    """A folder with these files, of which the first byte says which is replaced by the rest."""
    shutil.rmtree(folder, ignore_errors=True)
    names = sorted(whole)
    chosen = names[content[0] % len(names)] if content else names[0]
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content[1:] if name == chosen else whole[name])
    return folder


def in_folder(whole: Callable[[Seeds], Mapping[str, bytes]]) -> dict[str, Any]:
    """The options of a Reader of a folder, each file of which is foreign in turn."""

    def seeds(given: Seeds) -> list[bytes]:
        files = whole(given)
        return [bytes([number]) + files[name] for number, name in enumerate(sorted(files))]

    def place(path: Path, content: bytes) -> Path:
        return _one_of(path, content, whole(Seeds.default()))

    return {"seeds": seeds, "place": place}


def npz(path: Path, content: bytes) -> Path:
    """Bytes that are no zip are the first array of a whole file: the CRC of a zip would hide them from the reader."""
    if not content.startswith(b"PK"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("cls.npy", content)
        content = packed.getvalue()
    path.write_bytes(content)
    return path


def beside_weights(path: Path, content: bytes) -> Path:
    """An index beside the file that it names."""
    (path.parent / "model.safetensors").write_bytes(Seeds.default().safetensors()[1])
    path.write_bytes(content)
    return path


def beside_pictures(path: Path, content: bytes) -> Path:
    """A COCO JSON beside the picture that it names."""
    (path.parent / "a.png").write_bytes(Seeds.default().pictures()[0])
    path.write_bytes(content)
    return path


def sealed_report(path: Path, content: bytes) -> Path:
    """With the digest of what it says: without, nothing that was changed is read."""
    head, found, _ = content.rpartition(b'"digest":"')
    if found:
        head += found
        content = head + hashlib.sha256(head).hexdigest().encode() + b'"}'
    path.write_bytes(content)
    return path


def tar(path: Path, content: bytes) -> Path:
    """With right checksums of all headers: without, tarfile reads none that was changed."""
    blocks = bytearray(content)
    at = 0
    while at + 512 <= len(blocks):
        header = blocks[at : at + 512]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(header)
        at += 512
    path.write_bytes(blocks)
    return path


def tar_of(members: Mapping[str, bytes]) -> bytes:
    """A tar in the layout of WebDataset."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()
