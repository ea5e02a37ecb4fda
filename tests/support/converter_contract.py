"""What every converter promises, as tests: subclass `ConverterContract` in a test file and say which one is meant.

    class TestMyFormat(ConverterContract):
        format = "my_format"
        extra = "my-extra"

The files are those of the tiny MobileViT, which has labels and a channel order of its own; see `SharedFiles`.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from helpers import tiny_model
from phone_files import PhoneFile, SharedFiles, runtime_of, same_spec

from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.formats.converter import Converter, find_converter

MIN_SQNR_DB = {"fp32": 90, "fp16": 40}


class ConverterContract:
    """The tests; see the module."""

    format: ClassVar[str]
    backend: ClassVar[str | None] = None
    extra: ClassVar[str]  # of the package, which brings the toolchain
    max_rank: ClassVar[int] = 4

    @pytest.fixture
    def converter(self) -> Converter:
        return find_converter(self.format, self.backend)

    @pytest.fixture
    def file(self, phone_files: SharedFiles) -> PhoneFile:
        """In float32."""
        return phone_files.file(self.format, "fp32", backend=self.backend)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "precision" in metafunc.fixturenames:
            precisions = find_converter(self.format, self.backend).precisions
            metafunc.parametrize("precision", sorted(MIN_SQNR_DB.keys() & set(precisions)))

    def test_a_file_answers_as_pytorch(self, converter, precision, phone_files: SharedFiles):
        found = phone_files.file(self.format, precision, backend=self.backend).agreement(converter)
        assert found.sqnr_db.worst >= MIN_SQNR_DB[precision]
        assert found.top1_agreement == 1
        if precision == "fp16":
            exact = phone_files.file(self.format, "fp32", backend=self.backend).agreement(converter)
            assert found.sqnr_db.worst < exact.sqnr_db.worst  # it is another file

    def test_the_graph_is_taken_whole_at_rank_4(self, converter, precision, phone_files: SharedFiles):
        found = converter.inspect(phone_files.file(self.format, precision, backend=self.backend).path)
        assert found.max_rank == self.max_rank
        assert found.delegates in (1, None)  # None: the device decides
        assert not found.undelegated_ops

    def test_labels_and_preprocessing_travel_in_the_file(self, converter, precision, phone_files: SharedFiles):
        file = phone_files.file(self.format, precision, backend=self.backend)
        assert file.spec.labels
        assert same_spec(converter.inspect(file.path).spec, file.spec)

    def test_pixels_are_read_in_their_order_and_any_memory_layout(self, converter, file):
        answer = runtime_of(converter).load(file.path)
        image = file.reference.cases[0].image
        strided = np.asfortranarray(image)
        assert not strided.flags.c_contiguous
        np.testing.assert_array_equal(answer(strided), answer(image))
        assert np.abs(answer(image[::-1]) - answer(image)).max() > 1e-2

    def test_pixels_of_another_size_or_type_are_refused(self, converter, file):
        answer = runtime_of(converter).load(file.path)
        image = file.reference.cases[0].image
        for wrong in (image[:, :-1], image.astype(np.float32), image.transpose(1, 2, 0), image.astype(np.int8)):
            with pytest.raises(RequestError, match=r"takes uint8 of shape \(3, 36, 36\), not"):
                answer(wrong)

    def test_an_answer_outlives_the_next_one(self, converter, file):
        answer = runtime_of(converter).load(file.path)
        first = answer(file.reference.cases[0].image)
        kept = first.copy()
        assert not np.array_equal(answer(file.reference.cases[2].image), kept)
        np.testing.assert_array_equal(first, kept)

    def test_a_changed_weight_changes_the_answer(self, converter, file, tmp_path):
        """The classifier twice as large: so nothing of the source model is left in the runtime."""
        weight, bias = (file.graph.get_parameter(f"network.head.{name}").numpy() for name in ("weight", "bias"))
        copy = copy_of(file.path, tmp_path)
        (place,) = (path for path in files_in(copy) if weight.tobytes() in path.read_bytes())
        content = place.read_bytes()
        assert content.count(weight.tobytes()) == 1
        place.write_bytes(content.replace(weight.tobytes(), (2 * weight).tobytes()))
        self.seal(copy)
        image = file.reference.cases[0].image
        before, after = (runtime_of(converter).load(path)(image) for path in (file.path, copy))
        np.testing.assert_allclose(after, 2 * before - bias, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("share", [0, 0.5, 0.9])
    def test_a_truncated_file_is_refused(self, converter, file, share, tmp_path):
        largest = max(files_in(copy_of(file.path, tmp_path)), key=lambda path: path.stat().st_size)
        content = largest.read_bytes()
        largest.write_bytes(content[: int(share * len(content))])
        self.check_refused(converter, tmp_path / file.path.name)

    def test_a_foreign_file_and_a_missing_one_are_refused(self, converter, file, tmp_path):
        foreign = tmp_path / file.path.name
        self.check_refused(converter, foreign)
        foreign.write_bytes(b"<html>not found</html>" * 100)
        self.check_refused(converter, foreign)

    def seal(self, path: Path) -> None:
        """Make a file whole again after a change, in a format that keeps a hash of itself."""

    def check_refused(self, converter: Converter, path: Path) -> None:
        for read in (converter.inspect, runtime_of(converter).load):
            with pytest.raises(ArtifactError) as refusal:
                read(path)
            assert "\n" not in str(refusal.value)
            assert str(path) in str(refusal.value)

    def test_a_missing_toolchain_says_how_to_get_it(self, converter, tmp_path, monkeypatch):
        def missing(name: str) -> str:
            raise importlib.metadata.PackageNotFoundError(name)

        model, spec = tiny_model()
        monkeypatch.setattr(importlib.metadata, "version", missing)
        assert not converter.availability()
        assert not any(runtime.availability() for runtime in converter.runtimes)
        with pytest.raises(ToolchainError, match=rf"not installed: pip install 'mobilevit-sdk\[{self.extra}\]'"):
            converter.convert(model, spec, "fp32", tmp_path / f"model{converter.suffix}")
        assert list(tmp_path.iterdir()) == []


def files_in(path: Path) -> list[Path]:
    """A package is a folder."""
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def copy_of(path: Path, folder: Path) -> Path:
    copied = (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
    return Path(copied)
