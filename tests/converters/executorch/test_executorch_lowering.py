"""The guard around ExecuTorch's replaced methods: stock lowering and a note wherever they were not made for it."""

from __future__ import annotations

import warnings
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
from helpers import sampled, tiny_model
from phone_files import PhoneFile, convert_model

from mobilevit_sdk.conversion.phone_file import conversion_warnings
from mobilevit_sdk.errors import ConversionWarning, ToolchainError
from mobilevit_sdk.formats.runtime import Availability

pytest.importorskip("executorch.exir", reason="needs the extra executorch")
from mobilevit_converters.executorch import converter
from mobilevit_converters.executorch.passes import lowering


def converted(folder: Path) -> tuple[PhoneFile, list[str]]:
    folder.mkdir(exist_ok=True)
    with conversion_warnings() as notes:
        file = convert_model(converter, *tiny_model(image_size=20), "fp32", folder)
    return file, notes


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> PhoneFile:
    file, notes = converted(tmp_path_factory.mktemp("ours"))
    assert notes == []
    return file


def other_version(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(lowering, "availability", lambda: Availability("1.6.0"))
    return "the passes of this SDK were made for ExecuTorch 1.5, and 1.6.0 is installed"


def lost_method(monkeypatch: pytest.MonkeyPatch) -> str:
    place = "executorch.backends.xnnpack._passes:XNNPACKPassManager.no_such_method"
    monkeypatch.setattr(lowering, "REPLACES", (*lowering.REPLACES, place))
    return f"has no {place}"


@pytest.mark.parametrize("change", sampled([other_version, lost_method], other_version))
def test_with_another_executorch_stock_lowering_gives_the_same_answers_and_a_note(change, ours, tmp_path, monkeypatch):
    reason = change(monkeypatch)
    file, (note,) = converted(tmp_path / "stock")
    assert note.startswith("stock ExecuTorch lowering: ")
    assert reason in note
    assert file.path.read_bytes() != ours.path.read_bytes()
    assert len(converter.inspect(file.path).operators) > 0
    assert file.agreement(converter).sqnr_db.worst >= 90
    case = ours.reference.cases[0].as_passed()
    expected, found = (converter.runtimes[0].load(each.path)(case) for each in (ours, file))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", lowering.NEED_PASSES)
def test_a_precision_that_needs_our_passes_is_refused_without_them(precision, monkeypatch):
    other_version(monkeypatch)
    with (
        pytest.raises(ToolchainError, match=rf"^{precision} needs ExecuTorch 1\.5: "),
        lowering.xnnpack_lowering(precision),
    ):
        pass


@pytest.mark.parametrize("version", ["1.5", "1.5.1", "1.5.0.dev1"])
def test_every_patch_release_of_the_version_is_lowered_by_the_passes(version, monkeypatch):
    monkeypatch.setattr(lowering, "availability", lambda: Availability(version))
    assert lowering.why_stock() is None


@pytest.mark.parametrize("version", ["1.50.0", "1.4.9", "2.0", ""])
def test_no_other_version_is(version, monkeypatch):
    monkeypatch.setattr(lowering, "availability", lambda: Availability(version))
    assert "were made for ExecuTorch 1.5" in lowering.why_stock()


def test_conversion_warnings_keeps_the_converters_notes_and_shows_the_others():
    with warnings.catch_warnings(record=True) as shown, conversion_warnings() as notes:
        warnings.simplefilter("always", UserWarning)
        for _ in range(2):
            warnings.warn("a note", ConversionWarning, stacklevel=1)
        warnings.warn("of torch", UserWarning, stacklevel=1)
    assert notes == ["a note", "a note"]
    assert [str(each.message) for each in shown] == ["of torch"]


def test_executorch_is_as_it_was_afterwards():
    def replaced() -> list[object]:
        return [resolve_name(place) for place in lowering.REPLACES]

    before = replaced()
    with lowering.xnnpack_lowering():
        assert replaced() != before
    assert replaced() == before
