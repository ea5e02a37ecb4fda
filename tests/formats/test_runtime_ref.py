"""Looking a runtime up by its name: one place, one kind of error."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.formats import runtime_ref
from mobilevit_sdk.formats.runtime import Availability, Session
from mobilevit_sdk.formats.runtime_ref import RuntimeRef, choose_runtime


@dataclass
class Plain:
    name: str
    available: Availability = field(default_factory=lambda: Availability("1.0"))
    format: str = "fake"

    def availability(self):
        return self.available

    def load(self, path):
        return lambda image: (self.name, path)


class Timed(Plain):
    def session(self, path, threads):
        return Session(lambda image: image, lambda given: (self.name, path, threads))


class Converter:
    format = "fake"
    runtimes = (Plain("absent", Availability(None, "needs macOS")), Plain("plain"), Timed("timed"))


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(runtime_ref, "find_converter", lambda format, backend: Converter)


def ref(runtime):
    return RuntimeRef("fake", None, runtime, Path("model.fake"))


def test_a_reference_travels_and_loads_its_file_on_its_runtime():
    there = pickle.loads(pickle.dumps(ref("timed")))
    assert there.load()(None) == ("timed", Path("model.fake"))
    assert pickle.loads(pickle.dumps(there.session))(3)(None) == ("timed", Path("model.fake"), 3)


def test_an_unknown_name_is_refused_with_similar_ones():
    with pytest.raises(RequestError, match="fake has no runtime 'plian'; did you mean plain"):
        ref("plian").open_runtime()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: ref("plain").session(1), "plain cannot be told its number of threads"),
        (lambda: ref("plain").tap(), "plain does not expose intermediate values"),
    ],
)
def test_what_a_runtime_cannot_do_is_refused(use, message):
    with pytest.raises(RequestError, match=message):
        use()


def test_the_first_available_runtime_is_chosen_or_the_one_that_is_named():
    runtimes = Converter.runtimes
    assert choose_runtime(Converter, None, runtimes, "run its files").name == "plain"
    assert choose_runtime(Converter, "timed", runtimes, "run its files").name == "timed"


@pytest.mark.parametrize(
    ("name", "able", "error", "message"),
    [
        ("tmed", Converter.runtimes, RequestError, "fake has no runtime 'tmed'; did you mean timed"),
        ("plain", Converter.runtimes[2:], RequestError, "plain does not sing; use timed"),
        ("absent", Converter.runtimes, ToolchainError, r"available here can sing \(absent: needs macOS\)"),
        (None, Converter.runtimes[:1], ToolchainError, r"available here can sing \(absent: needs macOS\)"),
    ],
)
def test_a_runtime_that_cannot_be_chosen_says_why(name, able, error, message):
    with pytest.raises(error, match=message):
        choose_runtime(Converter, name, able, "sing")
