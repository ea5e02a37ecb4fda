"""The .pte files with one Core AI delegate, whose program Apple's runtime reads out of the file and runs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from damage import anywhere, assert_harmless, assert_inspected_or_refused, damaged_copies, fates
from mobilevit_converters.executorch import converter as xnnpack
from mobilevit_converters.executorch.file.coreai_delegate import DIGEST, METADATA, PROGRAM, read_coreai_delegate
from mobilevit_converters.executorch.file.program import COREAI, ProgramFile, read_program
from mobilevit_converters.executorch.runtimes import coreai as coreai_runtime
from phone_files import PhoneFile, SharedFiles, convert_model, mobilevit_xxs

from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.formats.converter import TensorInfo

pytest.importorskip("executorch.exir")
pytest.importorskip("coreai_torch")

SIZE = 36  # the attention stage sees 9x9, no multiple of the patch, and resizes
converter = xnnpack.backends["coreai"]
DELEGATE, RUNTIME = converter.runtimes


@pytest.fixture(scope="module")
def fp16(phone_files: SharedFiles) -> PhoneFile:
    """The tiny network. Read only."""
    return phone_files.file("executorch", "fp16", backend="coreai")


def manifest(path: Path) -> dict:
    file = read_program(path)
    (delegate,) = file.method("forward").delegates
    return json.loads(file.delegate_data(delegate))


def files_within(path: Path) -> dict[str, bytes]:
    file = read_program(path)
    return read_coreai_delegate(file, json.dumps(manifest(path)).encode()).files


def test_it_is_one_coreai_delegate_with_nothing_outside(fp16: PhoneFile):
    found = converter.inspect(fp16.path)
    assert (found.backend, found.delegates, found.undelegated_ops, found.max_rank) == ("coreai", 1, {}, 4)
    assert found.operators["layer_norm"] == 5  # two for each of two transformer blocks, one behind them
    assert found.operators["conv2d"] > 10
    assert xnnpack.inspect(fp16.path) == found  # the file says it, whoever asks


def test_it_takes_and_returns_float32_and_its_labels_are_a_method(fp16: PhoneFile):
    from executorch.runtime import Runtime

    found = converter.inspect(fp16.path)
    assert found.inputs == (TensorInfo(name="input_0", shape=(1, 3, SIZE, SIZE), dtype="float32"),)
    assert found.outputs == (TensorInfo(name="output_0", shape=(1, 5), dtype="float32"),)
    program = Runtime.get().load_program(fp16.path)
    assert program.load_method("labels").execute([]) == ["\n".join(fp16.spec.labels or ())]


def test_fp16_is_half_of_fp32(fp16: PhoneFile, phone_files: SharedFiles):
    fp32 = phone_files.file("executorch", "fp32", backend="coreai")
    weights = sum(parameter.numel() for parameter in fp16.graph.parameters())
    assert len(files_within(fp32.path)[PROGRAM]) - len(files_within(fp16.path)[PROGRAM]) > 1.5 * weights


def test_the_file_holds_neither_the_time_nor_paths_of_the_machine_that_made_it(fp16: PhoneFile):
    files = files_within(fp16.path)
    assert "creationDate" not in json.loads(files[METADATA])
    content = fp16.path.read_bytes()
    for trace in (b"/mobilevit_sdk", b"/site-packages", str(Path(__file__).parents[3]).encode()):
        assert trace not in content


# What is around the delegate; more of it in test_executorch_coreml.py.


@pytest.mark.parametrize(
    ("index", "changes"),
    [
        (0, {"dim_order": [0, 2, 3, 1]}),
        (0, {"sizes": [1, 3, 8, 8]}),
        (1, {"sizes": [1, 6]}),
        (1, {"scalar_type": "HALF"}),
    ],
    ids=["channels last", "an image of another size", "more classes than there are", "another type"],
)
def test_a_program_that_is_not_the_delegate_alone_is_refused(index, changes, fp16: PhoneFile, monkeypatch):
    def changed(path: Path) -> ProgramFile:
        file = read_program(path)
        plans = [_with_value(plan, index, changes) for plan in file.program.execution_plan]
        return replace(file, program=msgspec.structs.replace(file.program, execution_plan=plans))

    monkeypatch.setattr(coreai_runtime, "read_program", changed)
    with pytest.raises(ArtifactError) as refusal:
        RUNTIME.load(fp16.path)
    assert str(refusal.value).startswith(str(fp16.path))
    assert "\n" not in str(refusal.value)


def _with_value(plan, index, changes):
    if plan.name != "forward":
        return plan
    values = list(plan.values)
    values[index] = msgspec.structs.replace(values[index], val={**values[index].val, **changes})
    return msgspec.structs.replace(plan, values=values)


def test_a_file_for_another_backend_is_not_run(phone_files: SharedFiles):
    with pytest.raises(ArtifactError, match=r"is not one Core AI delegate .*its step is XnnpackBackend"):
        RUNTIME.load(phone_files.file("executorch", "fp32").path)


# What is in the delegate.

MANIFESTS = {
    "no manifest": (b"\xff", "has no manifest"),
    "a list": (b"[]", "has no manifest"),
    "another way of packing": ({"packaging": "elsewhere"}, "has no manifest"),
    "a program beside the file": ({"packaging": "sidecar"}, "lies in a file beside it"),
    "another hash": ({"hash": "0" * 64}, "is not one .aimodel"),
    "another hash throughout": ({"hash": "0" * 64, "path": f"{'0' * 64}/model.aimodel"}, "does not hold"),
    "a file too many": ({"files": ["model.aimodel/main.mlirb", "../../x"]}, "is not one .aimodel"),
    "no files": ({"files": []}, "is not one .aimodel"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_is_not_of_one_asset_is_refused(case, fp16: PhoneFile):
    content, reason = MANIFESTS[case]
    data = content if isinstance(content, bytes) else json.dumps({**manifest(fp16.path), **content}).encode()
    with pytest.raises(ArtifactError, match=reason) as refusal:
        read_coreai_delegate(read_program(fp16.path), data)
    assert str(fp16.path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [PROGRAM, DIGEST])
def test_a_program_that_is_not_the_one_that_was_written_is_refused(name, fp16: PhoneFile, tmp_path):
    inside = files_within(fp16.path)[name]
    content = fp16.path.read_bytes()
    assert content.count(inside) == 1
    path = tmp_path / "changed.pte"
    path.write_bytes(content.replace(inside, inside[:-1] + bytes([inside[-1] ^ 1])))
    for read in (converter.inspect, RUNTIME.load):
        with pytest.raises(ArtifactError, match="is not the one whose hash it states"):
            read(path)


def test_a_program_of_nothing_that_core_ai_knows_is_refused(fp16: PhoneFile, monkeypatch):
    """Its hash is right, and it is refused by Apple's reader, in another process where it may crash."""
    nonsense = b"ML\xefR" + bytes(64)
    files = {**files_within(fp16.path), PROGRAM: nonsense, DIGEST: hashlib.sha256(nonsense).digest()}
    for module in (coreai_runtime, __import__("mobilevit_converters.executorch.inspect", fromlist=["inspect"])):
        stock = module.read_coreai_delegate
        monkeypatch.setattr(module, "read_coreai_delegate", lambda *a, stock=stock: replace(stock(*a), files=files))
    with pytest.raises(ArtifactError, match="has a damaged Core AI delegate: ") as refusal:
        converter.inspect(fp16.path)
    assert "\n" not in str(refusal.value)
    assert "/tmp" not in str(refusal.value).replace(str(fp16.path), "")


def test_a_compiled_program_counts_as_one_operator_and_is_not_run(fp16: PhoneFile, monkeypatch):
    from mobilevit_converters.executorch import inspect

    for module in (inspect, coreai_runtime):
        monkeypatch.setattr(module, "read_coreai_delegate", lambda file, data: compiled(file))

    def compiled(file: ProgramFile):
        data = json.dumps({**manifest(file.path), "packaging": "aot_compiled_inline"}).encode()
        return read_coreai_delegate(file, data)

    found = converter.inspect(fp16.path)
    assert (found.operators, found.delegates, found.backend) == ({COREAI: 1}, 1, "coreai")
    with pytest.raises(ArtifactError, match="holds a compiled Core AI program"):
        RUNTIME.load(fp16.path)


@pytest.fixture(scope="module")
def damaged(fp16: PhoneFile, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    def in_manifest(path: Path) -> tuple[Path, int, int]:
        start = path.read_bytes().index(b'{"files"')
        return path, start, start + 300

    return damaged_copies(fp16.path, tmp_path_factory.mktemp("damaged"), 12, anywhere, in_manifest)


def test_damage_anywhere_is_read_or_refused(damaged: list[Path]):
    assert_inspected_or_refused(converter.inspect, damaged)


def test_a_damaged_file_is_refused_fails_or_computes_the_same(fp16: PhoneFile, damaged: list[Path]):
    assert_harmless(fates(fp16, converter, "fp16", "coreai", [*damaged, fp16.path]))  # the last one computes


# Where it cannot be made, and where it cannot run.


def test_another_executorch_is_refused_by_name(fp16: PhoneFile, tmp_path, monkeypatch):
    from mobilevit_converters.executorch.passes import coreai_lowering

    from mobilevit_sdk.formats.runtime import Availability

    monkeypatch.setattr(coreai_lowering, "availability", lambda: Availability("1.6.0"))
    with pytest.raises(ToolchainError, match=r"made with ExecuTorch 1\.5, and 1\.6\.0 is installed"):
        converter.convert(fp16.graph, fp16.spec, "fp16", tmp_path / "model.pte")
    assert list(tmp_path.iterdir()) == []


def test_executorch_runs_no_core_ai_delegate_yet(monkeypatch):
    reason = DELEGATE.availability().reason
    assert "has no runtime for them yet; coreai executes their program" in reason
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.9.0")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert "coreai executes its program here" in DELEGATE.availability().reason


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "floor_db"), [("fp32", 90), ("fp16", 40)])
def test_mobilevit_xxs_is_one_delegate(precision, floor_db, tmp_path):
    file = convert_model(converter, *mobilevit_xxs(64), precision, tmp_path)
    found = converter.inspect(file.path)
    assert (found.backend, found.delegates, found.undelegated_ops, found.max_rank) == ("coreai", 1, {}, 4)
    assert file.agreement(converter).sqnr_db.worst >= floor_db
