"""Device reports are read without trust: what is cut short, edited, contradictory or foreign is refused in one line."""

from __future__ import annotations

import hashlib
import json
import re

import msgspec
import pytest
from device_reports import device_report, device_run
from helpers import tiny_reference, tiny_spec, write_artifact

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.entries import Entry
from mobilevit_sdk.parity.device import (
    MAX_BYTES,
    Timing,
    device_runs,
    parse_device_report,
    phone_rows,
    read_device_report,
    seal,
    write_device_report,
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return write_artifact(tmp_path_factory.mktemp("artifact") / "one", tiny_spec(), tiny_reference())


@pytest.fixture(scope="module")
def report(artifact):
    return device_report(artifact)


def resealed(report, change):
    """The bytes of the report after `change` of its document, with a digest that fits."""
    document = json.loads(seal(report))
    change(document)
    document.pop("digest", None)
    head = (json.dumps(document)[:-1] + ',"digest":"').encode()
    return head + hashlib.sha256(head).hexdigest().encode() + b'"}'


def refusal(content):
    with pytest.raises(RequestError) as caught:
        parse_device_report(content, "phone.json")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("phone.json: ")
    return str(caught.value)


def test_a_written_report_reads_back_equal(report, tmp_path):
    write_device_report(report, tmp_path / "pixel.device-report.json")
    assert read_device_report(tmp_path / "pixel.device-report.json") == report


def test_a_newline_at_the_end_and_any_spacing_before_are_allowed(report):
    document = json.loads(seal(report))
    del document["digest"]
    head = (json.dumps(document, indent=2)[:-2] + ',\n  "digest":"').encode()
    content = head + hashlib.sha256(head).hexdigest().encode() + b'"}\n'
    assert parse_device_report(content).runs == report.runs


def test_the_digest_covers_every_byte_before_its_digits(report):
    content = seal(report)
    assert content.endswith(b'"}')
    assert content[-66:-2].decode() == hashlib.sha256(content[:-66]).hexdigest()
    assert content[:-66].endswith(b'"digest":"')


def test_an_edit_without_a_new_digest_is_refused(report):
    assert "was edited or damaged" in refusal(seal(report).replace(b"Pixel 8", b"Pixel 9"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_report_that_was_cut_short_is_refused(report, share):
    content = seal(report)
    assert "cut short" in refusal(content[: int(share * len(content))])


def test_more_than_the_bound_is_refused_and_not_read(report, tmp_path):
    content = seal(report)
    (tmp_path / "big.json").write_bytes(content + b" " * (MAX_BYTES + 1 - len(content)))
    with pytest.raises(RequestError, match="larger than 16 MiB"):
        read_device_report(tmp_path / "big.json")


def test_nothing_but_the_digest_ends_the_document(report):
    whole = seal(report)[:-66]
    another = b'"digest":"' + b"0" * 64 + b'"'
    for head in (
        whole.replace(b"{", b"{" + another + b",", 1),  # twice
        whole.replace(b"{", b"{" + another + b",", 1).removesuffix(b'"digest":"')
        + rb'"x\"digest":"',  # of another name
        whole.replace(b"{", b"{" + another + b",", 1).removesuffix(b'"digest":"') + b'"x":{"digest":"',  # of a member
    ):
        refusal(head + hashlib.sha256(head).hexdigest().encode() + b'"}')


def test_a_member_that_is_there_twice_is_refused(report):
    head = seal(report)[:-66].replace(b'"error":null', b'"error":"no GPU","error":null', 1)
    assert "'error' twice" in refusal(head + hashlib.sha256(head).hexdigest().encode() + b'"}')


def test_a_member_that_is_there_twice_is_found_among_many(report):
    many = ",".join(f'"{i}":""' for i in range(200_000))
    head = seal(report)[:-66].replace(b'"outputs":{', f'"outputs":{{{many},"7":"",'.encode(), 1)
    assert "'7' twice" in refusal(head + hashlib.sha256(head).hexdigest().encode() + b'"}')


def test_another_schema_is_named_even_where_its_digest_has_another_form(report):
    assert "schema 2" in refusal(resealed(report, lambda document: document.update(schema=2)))
    assert "update mobilevit-sdk" in refusal(b'{"schema": 2, "everything": "else"}')


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a device report"),
        (b"PK\x03\x04", "is not a device report"),
        (b"[]", "is not a device report"),
        (b"{}", "does not end with its digest"),
        (b"{" * 100_000, "does not end with its digest"),
        (b'{"a":' * 100_000 + b'"digest":"' + b"0" * 64 + b'"}', "not JSON"),
        (b'{"digest":"' + b"0" * 64 + b'"}', "was edited or damaged"),
        (b'\xef\xbb\xbf{"schema": 1}', "is not a device report"),
    ],
)
def test_what_is_no_device_report_is_refused(content, words):
    assert words in refusal(content)


def run_member(name, value):
    return lambda document: document["runs"][0].update({name: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda document: document.update(more=1), "unknown field `more`"),
        (lambda document: document["device"].update(name="x"), "unknown field `name`"),
        (lambda document: document["runs"][0].pop("error"), "missing required field `error`"),
        (lambda document: document["artifact"].update(sha256="A" * 64), r"\$.artifact.sha256"),
        (lambda document: document["device"].update(model=""), r"\$.device.model"),
        (lambda document: document["device"].update(model="a\nb"), r"\$.device.model"),
        (lambda document: document["device"].update(model="a\x1b[31m"), r"\$.device.model"),
        (lambda document: document["device"].update(model="x" * 201), r"\$.device.model"),
        (lambda document: document.update(created="2026-11-29T12:00:00"), r"\$.created"),
        (lambda document: document.update(runs=[]), r"\$.runs"),
        (lambda document: document["runs"].append(document["runs"][0]), "is there twice"),
        (run_member("runtime", "onnx"), r"\$.runs\[0\].runtime"),
        (run_member("accelerator", "tpu"), r"\$.runs\[0\].accelerator"),
        (run_member("accelerator", "ane"), r"runs\[0\] \(litert-ane\): litert does not run on ane"),
        (run_member("peak_memory_bytes", -1), r"\$.runs\[0\].peak_memory_bytes"),
        (run_member("peak_memory_bytes", True), r"\$.runs\[0\].peak_memory_bytes"),
        (run_member("cases", []), "neither answers nor an error"),
        (run_member("error", "no GPU"), "an error and answers"),
        (run_member("cases", [{"name": "china, whole", "outputs": {"logits": "AAAA="}}]), "base64"),
        (run_member("cases", [{"name": "china, whole", "outputs": {"logits": "AA A"}}]), "base64"),
    ],
)
def test_what_breaks_the_schema_is_refused_by_its_place(report, change, words):
    assert re.search(words, refusal(resealed(report, change)))


@pytest.mark.parametrize("runtime", ["coreml", "coreai"])
@pytest.mark.parametrize("accelerator", ["npu", "wasm", "webgpu"])
def test_apples_runtimes_on_what_no_apple_device_has_are_refused(report, runtime, accelerator):
    def change(document):
        document["runs"][0].update(runtime=runtime, accelerator=accelerator)

    assert f"{runtime} does not run on {accelerator}" in refusal(resealed(report, change))


@pytest.mark.parametrize(
    ("timing", "words"),
    [
        ({"samples": [1.0, 2.0, 3.0], "p50": 1.0, "p90": 3.0}, "p50 is 1 ms, and its samples give 2 ms"),
        ({"samples": [1.0, 2.0, 3.0], "p50": 2.0, "p90": 2.9}, "p90 is 2.9 ms, and its samples give 3 ms"),
        ({"samples": [], "p50": 0, "p90": 0}, "has no samples"),
        ({"samples": [-1.0], "p50": -1.0, "p90": -1.0}, "samples"),
        ({"samples": [1.0] * 10_001, "p50": 1.0, "p90": 1.0}, "samples"),
    ],
)
def test_latencies_that_contradict_themselves_are_refused(report, timing, words):
    latency = {"warm_up": 5, "inference_ms": timing, "with_preprocessing_ms": None}
    assert words in refusal(resealed(report, run_member("latency", latency)))


def test_latencies_with_preprocessing_that_contradict_themselves_are_refused(report):
    right = {"samples": [2.0], "p50": 2.0, "p90": 2.0}
    latency = {"warm_up": 5, "inference_ms": right, "with_preprocessing_ms": {**right, "p90": 3.0}}
    found = refusal(resealed(report, run_member("latency", latency)))
    assert "with_preprocessing_ms: p90 is 3 ms, and its samples give 2 ms" in found


OWN, OTHER = ({"samples": [ms], "p50": ms, "p90": ms} for ms in (2.0, 3.0))


def entries(*pairs):
    of_entries = [{"name": name, "inference_ms": timing, "with_preprocessing_ms": None} for name, timing in pairs]
    return run_member(
        "latency", {"warm_up": 5, "inference_ms": OWN, "with_preprocessing_ms": None, "entries": of_entries}
    )


def entry_of(name, size):
    others = {"inputs": (), "outputs": (), "operators": {}, "delegates": 1, "undelegated_ops": {}}
    return Entry(name=name, image_size=size, app_input=None, **others)


def test_latencies_of_entries_are_read_and_told(report, artifact):
    content = resealed(report, entries(("serving_default", OWN), ("image_256x192", OTHER)))
    read = parse_device_report(content)
    assert read.runs[0].latency is not None
    assert [(each.name, each.inference_ms.p50) for each in read.runs[0].latency.by_entry] == [
        ("serving_default", 2.0),
        ("image_256x192", 3.0),
    ]
    with pytest.raises(RequestError, match=r"entries serving_default, image_256x192; the file has one alone"):
        device_runs(artifact, read)
    sizes = {"serving_default": (32, 32), "image_256x192": (256, 192)}
    manifest = msgspec.structs.replace(artifact.manifest, entries=tuple(entry_of(*pair) for pair in sizes.items()))
    (run,) = device_runs(Artifact(artifact.path, manifest), read)
    assert ("latency of image_256x192", "3.00 ms, p90 3.00 ms") in run.facts
    rows = phone_rows(read)
    assert [(row.runtime, row.p50_ms) for row in rows] == [
        ("litert-gpu at serving_default", 2.0),
        ("litert-gpu at image_256x192", 3.0),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (entries(("main", OWN)), "latency.entries"),
        (entries(*((f"e{i}", OWN) for i in range(17))), "latency.entries"),
        (entries(("main", OWN), ("main", OTHER)), "has an entry twice"),
        (entries(("main", OTHER), ("image_4x2", OWN)), "latency is not that of the first of its entries"),
        (entries(("main", OWN), ("image_4x2", {**OWN, "p90": 3.0})), r"entries[1].inference_ms: p90 is 3 ms"),
        (entries(("main", OWN), ("image_4x2", {"samples": [], "p50": 0, "p90": 0})), "entries[1].inference_ms has no"),
    ],
)
def test_latencies_of_entries_that_contradict_themselves_are_refused(report, change, words):
    assert words in refusal(resealed(report, change))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999", "1" + "0" * 400])
def test_latencies_that_are_not_finite_are_refused(report, number):
    head = seal(report)[:-66].replace(b'"samples":[4.2', b'"samples":[' + number.encode(), 1)
    refusal(head + hashlib.sha256(head).hexdigest().encode() + b'"}')


@pytest.mark.parametrize(("count", "p50", "p90"), [(1, 1, 1), (2, 1, 2), (9, 5, 9), (10, 5, 9), (11, 6, 10)])
def test_percentiles_are_nearest_rank(count, p50, p90):
    timing = Timing.of([float(i) for i in range(count, 0, -1)])
    assert (timing.p50, timing.p90) == (p50, p90)


def test_runs_that_only_the_precision_tells_apart_are_named_by_it(artifact):
    half, full = device_run(artifact, precision="fp16"), device_run(artifact)
    assert device_report(artifact, full).run_names == ["litert-gpu"]
    assert device_report(artifact, half, full).run_names == ["litert-gpu-fp16", "litert-gpu-fp32"]


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(RequestError, match="cannot read the device report"):
        read_device_report(tmp_path / "none.json")
    with pytest.raises(RequestError, match="cannot read the device report"):
        read_device_report(tmp_path)


def test_a_sealed_document_is_compact_json_in_utf8(report):
    again = msgspec.structs.replace(report, app=msgspec.structs.replace(report.app, name="démo ✓"))
    assert parse_device_report(seal(again)).app.name == "démo ✓"
