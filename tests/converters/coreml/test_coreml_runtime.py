"""Core ML's own runtime, with a coremltools that only remembers: macOS alone has the real one."""

from __future__ import annotations

import enum
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from mobilevit_converters.coreml import converter
from mobilevit_converters.coreml.file.package import IMAGE
from mobilevit_converters.coreml.runtimes import coreml as runtime
from phone_files import SharedFiles

from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.formats.runtime import OnRequestRuntime

pytestmark = pytest.mark.skipif(not converter.availability(), reason="needs the extra coreml")


class ComputeUnit(enum.Enum):
    ALL = 1
    CPU_ONLY = 2
    CPU_AND_GPU = 3
    CPU_AND_NE = 4


class Model:
    """Answers the mean of each channel of the picture."""

    made: ClassVar[list[tuple[str, ComputeUnit]]] = []

    def __init__(self, path: str, compute_units: ComputeUnit) -> None:
        self.made.append((path, compute_units))

    def predict(self, inputs: dict) -> dict:
        picture = inputs[IMAGE]
        assert picture.mode == "RGB"
        return {"logits": np.asarray(picture, np.float64).mean((0, 1))[None]}


@pytest.fixture(scope="module")
def package(phone_files: SharedFiles) -> Path:
    return phone_files.file("coreml", "fp16").path


@pytest.fixture
def remembering(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ComputeUnit]]:
    monkeypatch.setattr(Model, "made", [])
    fake = SimpleNamespace(models=SimpleNamespace(MLModel=Model), ComputeUnit=ComputeUnit)
    monkeypatch.setattr(runtime, "import_coremltools", lambda: fake)
    return Model.made


@pytest.mark.parametrize(
    ("name", "units"),
    [("coreml", "ALL"), ("coreml-cpu", "CPU_ONLY"), ("coreml-gpu", "CPU_AND_GPU"), ("coreml-ane", "CPU_AND_NE")],
)
def test_each_choice_of_processors_is_a_runtime(name, units, package, remembering):
    (chosen,) = (each for each in converter.runtimes if each.name == name)
    answer = chosen.load(package)
    assert remembering == [(str(package), ComputeUnit[units])]
    image = np.zeros((3, 36, 36), np.uint8)
    image[1], image[2, :18] = 7, 10
    for pixels in (image, image.transpose(1, 2, 0).copy().transpose(2, 0, 1)):
        scores = answer(pixels)
        assert scores.dtype == np.float32
        assert scores.tolist() == [0, 7, 5]
    assert isinstance(chosen, OnRequestRuntime) == (name != "coreml")


@pytest.mark.parametrize("image", [np.zeros((3, 35, 36), np.uint8), np.zeros((3, 36, 36), np.float32)])
def test_pixels_of_another_size_or_type_are_refused(image, package, remembering):
    with pytest.raises(RequestError):
        converter.runtimes[0].load(package)(image)


def test_what_is_no_package_is_refused_before_native_code_sees_it(tmp_path, remembering):
    with pytest.raises(ArtifactError):
        converter.runtimes[0].load(tmp_path)
    assert remembering == []


@pytest.mark.skipif(platform.system() == "Darwin", reason="this is a Mac")
def test_elsewhere_all_of_them_say_what_runs_the_file_instead():
    for each in converter.runtimes:
        if each.name in ("coreml", "coreml-cpu", "coreml-gpu", "coreml-ane"):
            assert "coreml-reference" in str(each.availability().reason)
