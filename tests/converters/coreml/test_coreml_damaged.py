"""Damaged .mlpackage files: refused, failed by the gate, or the same function; see `benchmarks/damage_oracle.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from damage import assert_harmless, assert_inspected_or_refused, damaged_copies, fates
from mobilevit_converters.coreml import converter
from mobilevit_converters.coreml.file.package import model_file, read_package
from phone_files import PhoneFile, SharedFiles


@pytest.fixture(scope="module")
def package(phone_files: SharedFiles) -> PhoneFile:
    return phone_files.file("coreml", "fp16")


@pytest.fixture(scope="module")
def damaged(package: PhoneFile, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    def in_program(path: Path) -> tuple[Path, int, int]:
        return model_file(path), 0, model_file(path).stat().st_size

    def in_weights(path: Path) -> tuple[Path, int, int]:
        weights = read_package(path).weights / "weight.bin"
        return weights, 0, weights.stat().st_size

    return damaged_copies(package.path, tmp_path_factory.mktemp("damaged"), 16, in_program, in_weights)


def test_damage_anywhere_is_read_or_refused(damaged: list[Path]):
    assert_inspected_or_refused(converter.inspect, damaged)


def test_a_damaged_package_is_refused_fails_or_computes_the_same(package: PhoneFile, damaged: list[Path]):
    assert_harmless(fates(package, converter, "fp16", "coreml-reference", damaged))
