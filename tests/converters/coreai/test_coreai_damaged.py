"""Damaged .aimodel files whose hash is right: refused, failed by the gate, or the same function."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from damage import assert_harmless, assert_inspected_or_refused, damaged_copies, fates
from mobilevit_converters.coreai import converter
from phone_files import PhoneFile, SharedFiles
from tiny_networks import phone_checkpoint

from mobilevit_sdk.deployment import deploy


@pytest.fixture(scope="module")
def asset(phone_files: SharedFiles) -> PhoneFile:
    return phone_files.file("coreai", "fp16")


@pytest.fixture(scope="module")
def damaged(asset: PhoneFile, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    def anywhere(path: Path) -> tuple[Path, int, int]:
        return path / "main.mlirb", 0, (path / "main.mlirb").stat().st_size

    folder = tmp_path_factory.mktemp("damaged")
    copies = [*damaged_copies(asset.path, folder, 8, anywhere), barely_damaged(asset.path, folder / "weight.aimodel")]
    for copy in copies:
        (copy / "main.hash").write_bytes(hashlib.sha256((copy / "main.mlirb").read_bytes()).digest())
    return copies


def barely_damaged(path: Path, copy: Path) -> Path:
    """A copy with the lowest bit of one weight changed: where the others' damage falls differs from file to file."""
    shutil.copytree(path, copy)
    program = bytearray((copy / "main.mlirb").read_bytes())
    model, spec = phone_checkpoint("mobilevit").model, phone_checkpoint("mobilevit").spec
    weight = deploy(model, "coreai", spec).network.state_dict()["head.weight"].half().numpy().tobytes()
    program[program.index(weight)] ^= 1
    (copy / "main.mlirb").write_bytes(program)
    return copy


def test_damage_anywhere_is_read_or_refused(damaged: list[Path]):
    assert_inspected_or_refused(converter.inspect, damaged[:4])


def test_a_damaged_asset_is_refused_fails_or_computes_the_same(asset: PhoneFile, damaged: list[Path]):
    assert_harmless(fates(asset, converter, "fp16", "coreai", damaged))
