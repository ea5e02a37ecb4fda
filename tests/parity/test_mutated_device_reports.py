"""1,000 mutated device reports: none crashes, every refusal is a line, and none passes with another meaning.

Half of them have the digest that they had; the other half are sealed again, as by an app with a fault.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
from collections import Counter

import msgspec
import numpy as np
import pytest
from device_reports import device_report, device_run
from helpers import tiny_model, tiny_spec, write_artifact
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.artifacts.reference import reference_of
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.parity.device import MAX_BYTES, Timing, parse_device_report, phone_rows, seal
from mobilevit_sdk.parity.device.schema import json_schema
from mobilevit_sdk.parity.gate import verify

MUTANTS = 1000
ODD = [None, True, -1, 0, 1, 1.5, 1e300, "", "x", "\x00", "gpu", "fp16", "\u2028", "a" * 3000, [], {}, [[]], 10**400]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    model, spec = tiny_model()
    cases = builtin_cases(spec.preprocessing)
    folder = tmp_path_factory.mktemp("artifact") / "one"
    return write_artifact(folder, tiny_spec(), reference_of(model, spec.preprocessing, cases[:6] + cases[-3:]))


@pytest.fixture(scope="module")
def original(artifact):
    npu = device_run(artifact, accelerator="npu", cases=(), error="no NPU", latency=None)
    return seal(device_report(artifact, device_run(artifact), device_run(artifact, accelerator="cpu"), npu))


def sealed(document) -> bytes:
    document.pop("digest", None)
    head = (json.dumps(document)[:-1] + ',"digest":"').encode()
    return head + hashlib.sha256(head).hexdigest().encode() + b'"}'


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes overwritten, cut out, repeated, or the end cut off; the digest is as it was."""
    place = chance.randrange(len(content))
    length = chance.choice([1, 1, 2, 70, len(content)])
    kind = chance.randrange(4)
    if kind == 0:
        return content[:place] + bytes(chance.randrange(256) for _ in range(min(length, 70))) + content[place + 1 :]
    if kind == 1:
        return content[:place] + content[place + length :]
    if kind == 2:
        return content[:place] + content[place : place + length] + content[place:]
    return content[:place]


def places(value, path=()):
    """Every member and element of a document."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def edited(document, chance: random.Random):
    """One member or element of the document replaced, removed, repeated, renamed, moved or nudged."""
    path = chance.choice(list(places(document)))
    if chance.random() < 0.3:
        path = path[: chance.randint(1, len(path))]
    *above, last = path
    parent = document
    for key in above:
        parent = parent[key]
    value = parent[last]
    kind = chance.randrange(6)
    if kind == 0:
        parent[last] = chance.choice(ODD)
    elif kind == 1:
        del parent[last]
    elif kind == 2 and isinstance(parent, list):
        parent.insert(chance.randrange(len(parent) + 1), value)
    elif kind == 2:
        parent[f"{last}{chance.choice(['', '_', '2'])}x"] = value
    elif kind == 3 and isinstance(parent, list):
        chance.shuffle(parent)
    elif isinstance(value, bool) or value is None:
        parent[last] = chance.choice(ODD)
    elif isinstance(value, int | float):
        parent[last] = value * chance.choice([-1, 0.5, 2, 1e6]) + chance.choice([0, 1])
    elif isinstance(value, str):
        parent[last] = another_text(value, chance)
    else:
        parent[last] = chance.choice(ODD)
    return document


def another_text(text: str, chance: random.Random) -> str:
    """Other answers where the text is one of them; else a letter changed, or half of the text."""
    try:
        answers = np.frombuffer(base64.b64decode(text, validate=True), "<f4").copy()
        assert answers.size == 5
    except (ValueError, AssertionError):
        place = chance.randrange(len(text) + 1)
        return chance.choice([text[:place], text[:place] + chance.choice("x0A\n") + text[place + 1 :]])
    answers[chance.randrange(5)] *= np.float32(chance.choice([1 + 1e-7, 1 + 1e-3, -1, np.nan, np.inf, 0]))
    return base64.b64encode(answers.tobytes()).decode()


def assert_same_meaning(document, statuses, artifact):
    """By its own reading: of this file, and each run that passed with PyTorch's answers to all its cases, to 90 dB."""
    reference = artifact.reference()
    assert document["artifact"]["sha256"] == hashlib.sha256(artifact.path.read_bytes()).hexdigest()
    assert (
        document["artifact"]["reference_sha256"]
        == hashlib.sha256((artifact.path.parent / "reference.safetensors").read_bytes()).hexdigest()
    )
    for run, status in zip(document["runs"], statuses, strict=True):
        if status != "passed":
            continue
        assert run["error"] is None
        assert [case["name"] for case in run["cases"]] == [case.name for case in reference.cases]
        for case, expected in zip(run["cases"], reference.answers.astype(np.float64), strict=True):
            (answers,) = case["outputs"].values()
            noise = np.frombuffer(base64.b64decode(answers, validate=True), "<f4") - expected
            assert 10 * math.log10((expected**2).sum() / max((noise**2).sum(), 1e-30)) >= 90
        if run["latency"] is not None:
            timing = run["latency"]["inference_ms"]
            below = sum(sample <= timing["p90"] * (1 + 1e-6) for sample in timing["samples"])
            assert below >= 0.9 * len(timing["samples"])
            assert min(timing["samples"]) >= 0


def fate(content: bytes, artifact) -> tuple[str, list]:
    """Refused, or which runs passed; anything but an error of the SDK's own fails the test."""
    try:
        report = parse_device_report(content)
        verdicts = verify(artifact, runtimes="device", device_reports=report)
        rows = phone_rows(report, artifact)
    except RequestError as error:
        return ("refused" if len(str(error).splitlines()) == 1 and len(str(error)) < 1500 else "not a line"), []
    assert len(verdicts) == len(rows) == len(report.runs)
    for run, verdict in zip(report.runs, verdicts, strict=True):
        assert (run.error is None) == (verdict.status in ("passed", "failed"))
    return "read", [verdict.status for verdict in verdicts]


def test_no_damaged_report_is_accepted(original, artifact):
    assert fate(original, artifact) == ("read", ["passed", "passed", "error"])
    for number in range(MUTANTS // 4):
        content = damaged(original, random.Random(number))
        assert content in (original, original + b"\n") or fate(content, artifact)[0] == "refused", number


def test_no_edited_report_is_accepted_without_a_new_digest(original, artifact):
    for number in range(MUTANTS // 4):
        document = edited(json.loads(original), random.Random(number))
        content = json.dumps(document, separators=(",", ":")).encode()
        assert json.loads(content) == json.loads(original) or fate(content, artifact)[0] == "refused", number


def test_no_edited_report_that_was_sealed_again_passes_with_another_meaning(original, artifact):
    jsonschema = pytest.importorskip("jsonschema")  # comes with check-jsonschema
    schema = jsonschema.Draft202012Validator(json_schema())
    found: Counter[str] = Counter()
    for number in range(MUTANTS // 2):
        content = sealed(edited(json.loads(original), random.Random(number)))
        what, statuses = fate(content, artifact)
        found.update([what, *statuses])
        if what == "read":
            schema.validate(json.loads(content))
            assert_same_meaning(json.loads(content), statuses, artifact)
    # Else the sample proves nothing.
    assert min(found["refused"], found["passed"], found["failed"], found["error"]) > 10, found


# What any bytes and any valid report do


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_refused_in_a_line(content):
    with pytest.raises(RequestError) as caught:
        parse_device_report(b"{" + content)
    assert len(str(caught.value).splitlines()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8) | st.sampled_from(["schema", "runs", "device"]), JSON, max_size=4))
def test_any_sealed_object_is_refused_in_a_line(document):
    with pytest.raises(RequestError) as caught:
        parse_device_report(sealed(document | {"more": 1}))
    assert len(str(caught.value).splitlines()) == 1


TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=200)


@given(model=TEXT, samples=st.lists(st.floats(0, 1e9), min_size=1, max_size=40), error=TEXT)
def test_any_valid_report_reads_back_equal(original, model, samples, error):
    report = parse_device_report(original)
    latency = msgspec.structs.replace(report.runs[0].latency, inference_ms=Timing.of(samples))
    runs = (
        msgspec.structs.replace(report.runs[0], latency=latency),
        msgspec.structs.replace(report.runs[2], error=error),
    )
    device = msgspec.structs.replace(report.device, model=model)
    changed = msgspec.structs.replace(report, device=device, runs=runs)
    again = parse_device_report(seal(changed))
    assert (again.device, again.runs) == (device, runs)


def test_a_report_as_large_as_the_bound_is_read_in_time(original):
    """Ten thousand samples and a long text are far below it; only what no report holds can fill it."""
    document = json.loads(original)
    document["runs"][0]["cases"][0]["name"] = "x" * (MAX_BYTES - len(original) - 1000)
    with pytest.raises(RequestError, match="name"):
        parse_device_report(sealed(document))
