"""The labeled images that every file of a comparison answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mobilevit_sdk.data import ImageDataset, crop_image
from mobilevit_sdk.data.calibration import MAX_IMAGES
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.processes.child import emit, run_in_child
from mobilevit_sdk.progress import Progress, counted
from mobilevit_sdk.spec import Preprocessing
from mobilevit_sdk.tasks import Predict

TIMEOUT_SECONDS = 600.0  # for one image: a large network, evaluated operator by operator


@dataclass(frozen=True)
class LabeledImages:
    """Images with the class indices of a head, and how they are prepared."""

    dataset: ImageDataset
    preprocessing: Preprocessing
    values: slice  # where the scores of this head stand in the answer of a file with several outputs

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def labels(self) -> np.ndarray:
        """Class indices, [images]."""
        return np.asarray(self.dataset.labels)

    @cached_property
    def sha256(self) -> str:
        """Of encoded images, labels and preprocessing: what the answers depend on."""
        digest = hashlib.sha256(repr((self.preprocessing, self.dataset.labels)).encode())
        for row in range(len(self)):
            digest.update(hashlib.sha256(self.dataset.read(row)).digest())
        return digest.hexdigest()

    def answers(self, predict: Predict, progress: Progress = emit) -> np.ndarray:
        """The scores of a function for every image, float32 [images, num_classes]."""
        rows = counted(range(len(self)), "evaluate", progress)
        scores = [predict(crop_image(self.dataset.image(row), self.preprocessing)[None])[0] for row in rows]
        return np.stack(scores).astype(np.float32)

    def answers_of(self, ref: RuntimeRef, progress: Progress) -> np.ndarray:
        """The scores of a file, on a runtime in a process of its own. Raises ArtifactError and ToolchainError."""
        return run_in_child(answer_images, self, ref, on_event=progress, timeout=TIMEOUT_SECONDS)


def answer_images(images: LabeledImages, ref: RuntimeRef) -> np.ndarray:
    """In a child process: the scores of a file for every image, of the head that the images are for."""
    loaded = ref.load()
    return images.answers(lambda batch: np.array(loaded(batch[0])[images.values])[None])


def refuse_overlap(calibration: ImageDataset, images: LabeledImages) -> None:
    """Raise RequestError where images to calibrate with are among those that the files are judged on."""
    known = {hashlib.sha256(images.dataset.read(row)).digest() for row in range(len(images))}
    some = calibration.sample(2 * MAX_IMAGES)
    shared = sum(hashlib.sha256(some.read(row)).digest() in known for row in range(len(some)))
    if shared:
        raise RequestError(
            f"{shared} of the {len(some)} images to calibrate with are among those of `data`: accuracy on images that "
            f"set the ranges says nothing; give others as `calibration`, or none"
        )
