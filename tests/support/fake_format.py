"""A format whose runtimes answer as they are told, so that every outcome of the gate can be had at will."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mobilevit_sdk.artifacts import artifact
from mobilevit_sdk.formats import runtime_ref
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.parity import runs


@dataclass
class FakeRuntime:
    """Answers with the reference, spoilt by `spoil`."""

    name: str
    answers: dict[bytes, np.ndarray]
    spoil: object = staticmethod(lambda scores: scores)
    available: Availability = field(default_factory=lambda: Availability("1.0"))
    format: str = "fake"

    def availability(self):
        return self.available

    def load(self, path):
        return lambda image: self.spoil(self.answers[np.ascontiguousarray(image).tobytes()])


def fake_format(monkeypatch, reference):
    """Make the gate find the format "fake" and run it in this process.

    Returns a function that adds a runtime: `add(name="fake", spoil=..., available=...)`.
    """
    found = []

    class Converter:
        runtimes = found

    monkeypatch.setattr(artifact, "find_converter", lambda *name: Converter)
    monkeypatch.setattr(runtime_ref, "find_converter", lambda *name: Converter)
    monkeypatch.setattr(runs, "run_in_child", lambda function, *args, **options: function(*args))
    answers = {case.image.tobytes(): row for case, row in zip(reference.cases, reference.answers, strict=True)}
    return lambda name="fake", **options: found.append(FakeRuntime(name, answers, **options))
