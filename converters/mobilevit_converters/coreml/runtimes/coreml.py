"""Core ML itself, on a Mac."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from mobilevit_converters.coreml.file.package import IMAGE, Package, read_package
from mobilevit_converters.coreml.toolchain import availability, import_coremltools, quiet
from mobilevit_sdk.formats.runtime import (
    Availability,
    LoadedArtifact,
    answer_names,
    as_row,
    chosen_by_size,
    require_image,
)


class CoreMLRuntime:
    """Apple's runtime through coremltools, on whichever of CPU, GPU and Neural Engine it chooses."""

    name = "coreml"
    format = "coreml"
    compute_units = "ALL"  # of coremltools.ComputeUnit

    def availability(self) -> Availability:
        if platform.system() != "Darwin":
            return Availability(None, "Core ML runs on macOS only; coreml-reference executes the same file here")
        return availability()

    def load(self, path: Path) -> LoadedArtifact:
        entries = read_package(path).entries()  # anything but a package is refused before native code sees it
        choose = chosen_by_size(entries, lambda size: self._load(entries[size], several=len(entries) > 1), path.name)
        return lambda image: choose(image)(image)

    def _load(self, package: Package, *, several: bool) -> LoadedArtifact:
        from PIL import Image

        ct, path = import_coremltools(), package.path
        answers = answer_names(package.spec, [output.name for output in package.interface.output], path)
        image_type = package.interface.input[0].type.imageType
        chosen = {"function_name": package.function} if several else {}
        with quiet():
            model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit[self.compute_units], **chosen)

        def predict(image: np.ndarray) -> np.ndarray:
            require_image(image, image_type.height, image_type.width, path.name)
            pixels = np.ascontiguousarray(image.transpose(1, 2, 0))  # [3, H, W] -> [H, W, 3]
            found = model.predict({IMAGE: Image.fromarray(pixels)})
            return as_row(found[name] for name in answers)

        return predict


class CoreMLUnitsRuntime(CoreMLRuntime):
    """The same on some of the processors: an operator that the Neural Engine does not take runs on the CPU."""

    on_request = "one choice of processors"

    def __init__(self, name: str, compute_units: str) -> None:
        self.name = name
        self.compute_units = compute_units


RUNTIMES = (
    CoreMLRuntime(),
    CoreMLUnitsRuntime("coreml-cpu", "CPU_ONLY"),
    CoreMLUnitsRuntime("coreml-gpu", "CPU_AND_GPU"),
    CoreMLUnitsRuntime("coreml-ane", "CPU_AND_NE"),
)
