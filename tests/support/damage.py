"""Damaged phone files for the converters' tests, and what must become of them. See `benchmarks/damage_oracle.py`."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from damage_oracle import Fate, fates_of, first_cases
from phone_files import PhoneFile, artifact_of

from mobilevit_sdk.errors import MobileViTError
from mobilevit_sdk.formats.converter import Converter

CASES = 6  # of the gate, to each file


def damaged_copies(
    path: Path, folder: Path, count: int, part: Callable[[Path], tuple[Path, int, int]], seed: int = 0
) -> list[Path]:
    """`count` copies of a phone file in `folder`, each with up to 4 bytes overwritten.

    `part` names the file within the phone file, and the range of its bytes where every other copy is damaged; the rest
    are damaged anywhere in it.
    """
    chance = random.Random(seed)
    copies = []
    for number in range(count):
        copy = folder / f"{number}{path.suffix}"
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
        file, start, end = part(copy)
        content = bytearray(file.read_bytes())
        low, high = (start, end) if number % 2 else (0, len(content))
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(low, high)] = chance.randrange(256)
        file.write_bytes(content)
        copies.append(copy)
    return copies


def fates(file: PhoneFile, converter: Converter, precision: str, runtime: str, copies: Sequence[Path]) -> list[Fate]:
    return fates_of(artifact_of(file, converter, precision), runtime, copies, first_cases(file.reference, CASES))


def assert_harmless(found: Sequence[Fate]) -> None:
    """No file passed with other answers; some were stopped, and some computed: else the sample proves nothing."""
    wrong = [(number, fate) for number, fate in enumerate(found) if fate.wrong]
    assert not wrong
    assert {"refused", "failed", "error"} & {fate.status for fate in found}
    assert "passed" in {fate.status for fate in found}


def assert_inspected_or_refused(inspect: Callable[[Path], object], copies: Sequence[Path]) -> None:
    """In this process: any exception but one of the SDK's own fails the test, as does an error of several lines."""
    for copy in copies:
        try:
            inspect(copy)
        except MobileViTError as error:
            assert "\n" not in str(error)  # noqa: PT017
