"""The contents of a Core AI delegate in a .pte file: the files of an .aimodel, each a named entry of the program.

The delegate's own bytes are a manifest in JSON, as ExecuTorch 1.5 writes it: the files by their paths, how they are
packed, and the hash of the program, under which the entries are named: coreai/<hash>/model.aimodel/main.mlirb.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from mobilevit_converters.coreai.file.asset import Asset, read_asset
from mobilevit_converters.executorch.file.program import ProgramFile
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.files import decode_json

ASSET = "model.aimodel"
OUTPUT = "output_"  # with a number: what a program with several outputs calls them, in the order of the delegate's
PROGRAM, DIGEST, METADATA = "main.mlirb", "main.hash", "metadata.json"  # all that an asset holds


class _Manifest(msgspec.Struct):
    """What matters here of a delegate's own bytes."""

    packaging: Literal["inline", "sidecar", "aot_compiled_inline", "aot_compiled_sidecar"]
    hash: str
    path: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class CoreAIDelegate:
    """The files of an asset by name, and the .pte `path` that they come from; none where it is a compiled one."""

    path: Path
    files: dict[str, bytes]

    @contextmanager
    def asset(self) -> Iterator[Asset]:
        """The .aimodel, unpacked for as long as the context lasts. Raises ArtifactError for a compiled one.

        An ArtifactError from within the context tells of the .pte instead of the folder that is gone.
        """
        if not self.files:
            raise ArtifactError(f"{self.path} holds a compiled Core AI program, which runs on Apple's systems only")
        with tempfile.TemporaryDirectory() as folder:
            asset = Path(folder) / ASSET
            asset.mkdir()
            for name, content in self.files.items():
                (asset / name).write_bytes(content)
            try:
                yield read_asset(asset)
            except ArtifactError as error:
                inside = str(error).replace(f"{folder}/", "")
                raise ArtifactError(f"{self.path} has a damaged Core AI delegate: {inside}") from error


def read_coreai_delegate(file: ProgramFile, data: bytes) -> CoreAIDelegate:
    """The asset that a Core AI delegate's `data` names. Raises ArtifactError unless `file` holds it unchanged.

    An asset that lies beside the .pte is refused: a file for phones is one file.
    """
    try:
        manifest = decode_json(data, _Manifest)
    except ValueError as error:
        raise ArtifactError(f"{file.path} is damaged: its Core AI delegate has no manifest ({error})") from error
    if manifest.packaging.endswith("sidecar"):
        raise ArtifactError(f"{file.path} does not hold its Core AI program, which lies in a file beside it")
    if manifest.packaging != "inline":
        return CoreAIDelegate(file.path, {})
    expected = {f"{ASSET}/{name}" for name in (PROGRAM, DIGEST, METADATA)}
    if set(manifest.files) != expected or manifest.path != f"{manifest.hash}/{ASSET}":
        raise ArtifactError(f"{file.path} is damaged: its Core AI delegate is not one .aimodel: {manifest.files}")
    files = {name: file.named_data(f"coreai/{manifest.hash}/{ASSET}/{name}") for name in (PROGRAM, DIGEST, METADATA)}
    digest = hashlib.sha256(files[PROGRAM]).digest()
    if digest != files[DIGEST] or digest.hex() != manifest.hash:
        raise ArtifactError(f"{file.path} is damaged: its Core AI program is not the one whose hash it states")
    return CoreAIDelegate(file.path, files)
