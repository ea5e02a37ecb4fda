"""Conversions of float16 in hardware: the same bits as in software, and done without where they cannot be had."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
from mobilevit_converters.coreai import converter
from mobilevit_converters.coreai.runtimes import half_conversions
from phone_files import runtime_of

from mobilevit_sdk.processes.child import run_in_child

REGISTER = np.dtype("<u8")  # the low half of what passes an argument or an answer, as ctypes' double does


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    compiled = half_conversions.compiled()
    if compiled is None:
        pytest.skip("no x86-64 with F16C here, or no C compiler")
    found = ctypes.CDLL(str(compiled))
    for function in (found.__extendhfsf2, found.__truncsfhf2):
        function.argtypes, function.restype = [ctypes.c_double], ctypes.c_double
    return found


def converted(function, bits: np.ndarray) -> np.ndarray:
    given = bits.astype(REGISTER).view("<f8")
    return np.array([function(value) for value in given.tolist()], "<f8").view(REGISTER)


def test_every_half_becomes_its_single(library):
    halves = np.arange(2**16, dtype=np.uint16)
    singles = converted(library.__extendhfsf2, halves).astype(np.uint32).view(np.float32)
    np.testing.assert_array_equal(singles, halves.view(np.float16).astype(np.float32))


def test_singles_round_to_the_nearest_half_ties_to_even(library):
    """Every half, every middle between two, what lies beside these, and numbers from everywhere."""
    halves = np.arange(2**15 - 2**10, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[:-1] + halves[1:]) / 2
    beside = [np.nextafter(each, np.float32(bound)) for each in (halves, middles) for bound in (0, np.inf)]
    anywhere = np.random.default_rng(0).integers(0, 2**32, 50_000, np.uint32).view(np.float32)
    positive = np.concatenate([halves, middles, *beside, [65519.99, 65520.0, np.inf, np.nan]]).astype(np.float32)
    singles = np.concatenate([positive, -positive, anywhere])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = singles.astype(np.float16)
    found = converted(library.__truncsfhf2, singles.view(np.uint32)).astype(np.uint16).view(np.float16)
    np.testing.assert_array_equal(found, expected)


def answers(path: Path, image: np.ndarray, hardware: bool) -> tuple[bool, np.ndarray]:
    """Of a file on Apple's runtime, and whether conversions are done in hardware; in a process of its own."""
    if not hardware:
        half_conversions.COMPILERS = ()
        half_conversions.cache_folder = lambda: path.parent / "empty"
    return half_conversions.use_hardware_conversions(), converter.runtimes[0].load(path)(image)


def test_apple_s_runtime_answers_with_the_same_bits(phone_files, library):
    file = phone_files.file("coreai", "fp16")
    runtime_of(converter)
    image = np.random.default_rng(0).integers(0, 256, (3, 36, 36), np.uint8)
    (fast, found), (slow, expected) = (run_in_child(answers, file.path, image, hardware) for hardware in (True, False))
    assert (fast, slow) == (True, False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("missing", ["processor", "compiler", "system", "cache"])
def test_without_them_the_runtime_is_slower_and_nothing_else(missing, library, tmp_path, monkeypatch):
    monkeypatch.setattr(half_conversions, "cache_folder", lambda: tmp_path / "cache")
    assert half_conversions.use_hardware_conversions()
    (compiled,) = (tmp_path / "cache").iterdir()
    compiled.unlink()
    if missing == "processor":
        monkeypatch.setattr(half_conversions, "processor_features", lambda: frozenset({"avx"}))
    elif missing == "compiler":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif missing == "system":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        (tmp_path / "cache").rmdir()
        (tmp_path / "cache").touch()
    assert not half_conversions.use_hardware_conversions()


def test_a_compiler_that_fails_leaves_nothing_behind(library, tmp_path, monkeypatch):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(half_conversions, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not half_conversions.use_hardware_conversions()
    assert not [*(tmp_path / "cache").iterdir()]
