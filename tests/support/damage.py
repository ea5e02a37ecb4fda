"""Damaged phone files for the converters' tests, and what must become of them. See `benchmarks/damage_oracle.py`."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from damage_oracle import Fate, fates_of
from phone_files import PhoneFile, artifact_of

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.errors import MobileViTError
from mobilevit_sdk.formats.converter import Converter

Part = Callable[[Path], tuple[Path, int, int]]  # of a phone file: the file within it, and the range of its bytes


def anywhere(path: Path) -> tuple[Path, int, int]:
    return path, 0, path.stat().st_size


def damaged_copies(path: Path, folder: Path, count: int, *parts: Part, seed: int = 0) -> list[Path]:
    """`count` copies of a phone file in `folder`, each with up to 4 bytes overwritten in a part: by turns."""
    chance = random.Random(seed)
    copies = []
    for number in range(count):
        copy = folder / f"{number}{path.suffix}"
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
        file, start, end = parts[number % len(parts)](copy)
        content = bytearray(file.read_bytes())
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(start, end)] = chance.randrange(256)
        file.write_bytes(content)
        copies.append(copy)
    return copies


def fates(file: PhoneFile, converter: Converter, precision: str, runtime: str, copies: Sequence[Path]) -> list[Fate]:
    return fates_of(artifact_of(file, converter, precision), runtime, copies, file.reference)


def assert_harmless(found: Sequence[Fate]) -> None:
    """No file passed with other answers; some were stopped, and some computed: else the sample proves nothing."""
    wrong = [(number, fate) for number, fate in enumerate(found) if fate.wrong]
    assert not wrong
    statuses = {fate.status for fate in found}
    assert {"refused", "failed", "error"} & statuses, found
    assert "passed" in statuses, found


def assert_inspected_or_refused(inspect: Callable[[Path], object], copies: Sequence[Path]) -> None:
    """In this process: any exception but one of the SDK's own fails the test, as does an error of several lines."""
    for copy in copies:
        try:
            inspect(copy)
        except MobileViTError as error:
            assert "\n" not in str(error)  # noqa: PT017


def with_operators_of_version(number: int, artifact: Artifact, folder: Path) -> Path:
    """A copy of a .tflite file whose operators claim a version that no runtime knows, if the number is high."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(artifact.path))
    for code in model.operatorCodes:
        code.version = number
    path = folder / "model.tflite"
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return path
