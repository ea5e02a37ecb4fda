"""Damaged .aimodel files whose hash is right: refused, failed by the gate, or the same function."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from damage import assert_harmless, assert_inspected_or_refused, damaged_copies, fates
from mobilevit_converters.coreai import converter
from phone_files import PhoneFile, SharedFiles


@pytest.fixture(scope="module")
def asset(phone_files: SharedFiles) -> PhoneFile:
    return phone_files.file("coreai", "fp16")


@pytest.fixture(scope="module")
def damaged(asset: PhoneFile, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    def anywhere(path: Path) -> tuple[Path, int, int]:
        return path / "main.mlirb", 0, (path / "main.mlirb").stat().st_size

    copies = damaged_copies(asset.path, tmp_path_factory.mktemp("damaged"), 8, anywhere)
    for copy in copies:
        (copy / "main.hash").write_bytes(hashlib.sha256((copy / "main.mlirb").read_bytes()).digest())
    return copies


def test_damage_anywhere_is_read_or_refused(damaged: list[Path]):
    assert_inspected_or_refused(converter.inspect, damaged[:4])


def test_a_damaged_asset_is_refused_fails_or_computes_the_same(asset: PhoneFile, damaged: list[Path]):
    assert_harmless(fates(asset, converter, "fp16", "coreai", damaged))
