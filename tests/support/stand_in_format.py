"""Formats that convert at once and answer as they are told, so that a comparison of many files takes seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch

from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats import converter as plug_ins
from mobilevit_sdk.formats.converter import Inspection, TensorInfo
from mobilevit_sdk.formats.runtime import Availability, Session, as_row


@dataclass
class StandInRuntime:
    """Answers with the graph that was converted, spoilt by `spoil(number of the answer, scores)`."""

    format: str
    graphs: dict
    name: str = "stand-in"
    spoil: object = staticmethod(lambda number, scores: scores)
    available: Availability = field(default_factory=lambda: Availability("1.0"))
    answers: int = 0

    def availability(self):
        return self.available

    def load(self, path):
        graph = self.graphs[path.read_text()]

        @torch.inference_mode()
        def answer(image):
            pixels = torch.from_numpy(np.ascontiguousarray(image))[None].float() / 255
            self.answers += 1
            found = graph(pixels)
            row = as_row([each.numpy() for each in (found if isinstance(found, tuple) else (found,))])
            return self.spoil(self.answers, row)

        return answer


class TimedStandInRuntime(StandInRuntime):
    """One that can be timed."""

    def session(self, path, threads):
        return Session(lambda image: image, self.load(path))


class StandInConverter:
    """`runtime` makes the runtime of its files, with `options`; `fails` and `missing` are reasons of its toolchain."""

    target = "litert-cpu"
    nearest_precision: dict = {}  # noqa: RUF012

    def __init__(
        self, format, *, backend=None, precisions=("fp32",), fails=None, missing=None, runtime=StandInRuntime, **options
    ):
        self.format, self.backend, self.precisions = format, backend, precisions
        self.suffix = f".{format}"
        self.backends = {backend: self} if backend else {}
        self.graphs = {}
        self.runtime = runtime(format, self.graphs, **options)
        self.runtimes = (self.runtime,)
        self.conversions = []
        self.fails, self.missing = fails, missing

    def availability(self):
        return Availability(None, self.missing) if self.missing else Availability("1.0")

    def convert(self, graph, spec, precision, path, quantization=None):
        self.conversions.append(precision)
        if self.fails:
            raise ToolchainError(self.fails)
        self.graphs[text := f"{self.backend} {precision} {len(self.conversions)}"] = graph
        path.write_text(text)

    def inspect(self, path):
        given = TensorInfo(name="image", shape=(1, 3, 36, 36), dtype="float32")
        return Inspection((given,), (), {"conv": 1}, 4, 1, {}, None, self.backend)


def install(monkeypatch, *converters):
    """Let these be the only formats that are installed; those with backends share a format's name."""
    by_format = {}
    for each in converters:
        first = by_format.setdefault(each.format, each)
        if first is not each:
            first.backends[each.backend] = each
            each.backends = first.backends
    points = [SimpleNamespace(name=name, value=name, load=lambda c=c: c) for name, c in by_format.items()]
    monkeypatch.setattr(plug_ins, "entry_points", lambda group: points)
    plug_ins.converters.cache_clear()
