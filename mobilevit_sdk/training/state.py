"""The state that a training resumes from, and whether it belongs to the same training."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.spec import ModelSpec, Strict
from mobilevit_sdk.tasks.draws import AUGMENTATION_VERSION


@dataclass(frozen=True)
class Identity:
    """Everything in which two runs of one training must agree, but that a later one may have more epochs."""

    spec: ModelSpec
    recipe: Recipe
    data_sha256: str  # of the labels
    teacher_sha256: str | None

    def encode(self) -> dict[str, Any]:
        """As plain values for the state file."""
        return {
            "spec": msgspec.json.encode(self.spec).decode(),
            "recipe": msgspec.json.encode(self.recipe).decode(),
            "data": self.data_sha256,
            "teacher": self.teacher_sha256,
            "augmentation": AUGMENTATION_VERSION,
        }

    def differences(self, state: dict[str, Any]) -> list[str]:
        """How the training that saved `state` differs from this one; empty when it is the same."""
        found = []
        theirs = (
            msgspec.json.decode(state["recipe"], type=Recipe),  # fields added since then have their defaults
            msgspec.json.decode(state["spec"], type=ModelSpec),
        )
        for mine, other in zip(map(_plain, (self.recipe, self.spec)), map(_plain, theirs), strict=True):
            found += [
                f"its {name} is {_short(other.get(name))}, not {_short(mine.get(name))}"
                for name in mine | other
                if other.get(name) != mine.get(name)
                and not (name == "epochs" and other[name] < mine[name])  # it may go on for longer
            ]
        if state.get("data", self.data_sha256) != self.data_sha256:
            found.append("its training images differ")
        if state.get("teacher") != self.teacher_sha256:
            both = self.teacher_sha256 and state.get("teacher")
            found.append(
                "its teacher differs, or its stored labels do"
                if both
                else f"it has {'no' if self.teacher_sha256 else 'a'} teacher"
            )
        if state.get("augmentation") != AUGMENTATION_VERSION:
            found.append("its images were augmented by another version of this SDK, which cannot be continued")
        return found


def labels_sha256(dataset: ImageDataset) -> str:
    """Of what a training learns about its images."""
    if dataset.objects is None:
        return hashlib.sha256(np.asarray(dataset.labels, np.int64).tobytes()).hexdigest()
    found = hashlib.sha256()
    for each in dataset.objects:
        for array in (each.classes.astype(np.int64), each.boxes.astype(np.float32), each.crowd.astype(bool)):
            found.update(len(array).to_bytes(8, "little") + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def epochs_of(state: dict[str, Any]) -> int:
    """For how many epochs the training that saved `state` was to run."""
    return msgspec.json.decode(state["recipe"], type=Recipe).epochs


def save_state(path: Path, state: dict[str, Any]) -> None:
    encoded = io.BytesIO()
    torch.save(state, encoded)  # straight to a full disk it would raise no OSError
    with replacing(path) as fresh:
        fresh.write_bytes(encoded.getbuffer())


def read_state(
    path: Path, content: bytes, identity: Identity, device: torch.device
) -> tuple[dict[str, Any], list[str]]:
    """The state in the `content` of a file at `path`, and how it differs from `identity`.

    Raises CheckpointError for that of a foreign or damaged file.
    """
    try:
        state = torch.load(io.BytesIO(content), weights_only=True, map_location=device)
        return state, identity.differences(state)
    except Exception as error:  # torch.load raises many kinds on a foreign file
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is not a training state of this SDK ({type(error).__name__})")


def _plain(value: Strict) -> dict[str, Any]:
    """By field, and of a spec's provenance by what it tells."""
    plain: dict[str, Any] = json.loads(msgspec.json.encode(value))
    told = plain.pop("provenance", {})
    return plain | {f"provenance's {name}" if name in plain else name: each for name, each in told.items()}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
