"""Every value that coreml-reference computes on the way to an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mobilevit_converters.coreml.runtimes.reference.program import ReferenceProgram
from mobilevit_sdk.formats.taps import Tap, TappedArtifact


def tap_program(program: ReferenceProgram, to_input: Callable[[np.ndarray], dict[str, torch.Tensor]]) -> TappedArtifact:
    """A program with the real values of all its operators; `to_input` makes its input from an image."""
    taps = {name: Tap(kind, name, shape) for name, (kind, shape) in program.results.items()}

    def values(image: np.ndarray) -> list[np.ndarray]:
        found: dict[str, np.ndarray] = {}

        def keep(name: str, value: Any) -> None:
            if name in taps:
                found[name] = value.numpy()

        program(to_input(image), keep)
        return [found[name] for name in taps]

    return TappedArtifact(tuple(taps.values()), values)
