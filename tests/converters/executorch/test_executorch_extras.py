"""Files for ExecuTorch's developer tools beside a .pte: test vectors that its runtime checks, and an ETRecord."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from made_once import in_this_process
from tiny_networks import tiny_spec

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import Artifact, open_artifact
from mobilevit_sdk.checkpoints.load import prepare
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.conversion.extras import plan_extras
from mobilevit_sdk.conversion.plan import plan_conversions
from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.formats.converter import find_converter

pytest.importorskip("executorch")


def checkpoint():
    return random_checkpoint(tiny_spec("mobilevit", 32), 0)


def made(folder: Path, *, sizes: tuple[tuple[int, int], ...] = (), **options: bool) -> Artifact:
    source = prepare(checkpoint(), Preparation(image_sizes=sizes)) if sizes else checkpoint()
    with in_this_process():
        result = convert(source, out=folder, formats="executorch", check=False, **options)
    assert result.failures == []
    return result.artifacts[0]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return made(tmp_path_factory.mktemp("extras"), bundle=True, etrecord=True)


@pytest.mark.slow
def test_the_bundle_is_the_file_with_every_case_and_the_runtime_answers_it(artifact: Artifact) -> None:
    from executorch.devtools.bundled_program.serialize import deserialize_from_flatbuffer_to_bundled_program as read

    bundle, record = artifact.manifest.extras
    assert (bundle.kind, bundle.file) == ("bundle", f"{artifact.manifest.spec.model}.bpte")
    assert (record.kind, record.file, record.atol) == ("etrecord", "mobilevit_xxs.etrecord", msgspec.UNSET)
    held = read((artifact.path.parent / bundle.file).read_bytes())
    assert held.program == artifact.path.read_bytes()
    (suite,) = held.method_test_suites
    cases, answers = artifact.reference().cases, artifact.reference().answers
    assert (suite.method_name, len(suite.test_cases)) == ("forward", len(cases))
    for case, row, test in zip(cases, answers, suite.test_cases, strict=True):
        given, expected = test.inputs[0].val, test.expected_outputs[0].val
        assert np.array_equal(np.frombuffer(expected.data, np.float32), row)
        image = np.frombuffer(given.data, np.float32).reshape(given.sizes)
        assert np.array_equal((image[0] * 255).round().astype(np.uint8), case.image)
    assert 0 < bundle.atol < 1e-3 * np.abs(answers).max()  # at 90 dB


@pytest.mark.slow
def test_other_answers_than_the_file_s_are_refused(artifact: Artifact, tmp_path: Path) -> None:
    """Of the last case alone, by twice what it may be off."""
    reference, converter = artifact.reference(), find_converter("executorch")
    images, (bundle, _) = [case.image for case in reference.cases], artifact.manifest.extras
    arguments = artifact.path, "fp32", images
    assert converter.bundle(*arguments, list(reference.answers), bundle.atol, tmp_path / "a.bpte") is None
    wrong = reference.answers.copy()
    wrong[-1, 2] += 2 * bundle.atol
    with pytest.raises(ToolchainError, match=rf"test vector {len(images) - 1} of forward in a.bpte is not answered"):
        converter.bundle(*arguments, list(wrong), bundle.atol, tmp_path / "a.bpte")


@pytest.mark.slow
def test_the_inspector_opens_the_record_and_names_our_modules(artifact: Artifact, tmp_path: Path) -> None:
    from executorch.devtools import Inspector
    from executorch.extension.pybindings.portable_lib import _load_for_executorch

    module = _load_for_executorch(str(artifact.path), enable_etdump=True)
    if not module.has_etdump():
        pytest.skip("this ExecuTorch is built without event tracing")
    module.run_method("forward", (torch.rand(1, 3, 32, 32),))
    module.write_etdump_result_to_file(str(tmp_path / "run.etdp"))
    record = artifact.path.with_suffix(".etrecord")
    inspector = Inspector(etdump_path=str(tmp_path / "run.etdp"), etrecord=str(record))
    events = [event for block in inspector.event_blocks if block.name == "Execute" for event in block.events]
    assert len(events) > 20
    assert {"stages"} <= {part for event in events for path in _modules(event) for part in path.split(".")}


def _modules(event) -> list[str]:
    """The modules of the phone graph that an event of the runtime belongs to."""
    levels = [stack for stacks in (event.module_hierarchy or {}).values() for stack in (stacks or {}).values()]
    return [str(level[0] if isinstance(level, tuple) else level) for level in levels]


@pytest.mark.slow
def test_a_file_is_the_same_with_and_without_them_and_they_are_its_artifact_s(artifact, tmp_path: Path) -> None:
    alone = made(tmp_path)
    assert alone.path.read_bytes() == artifact.path.read_bytes()
    assert alone.manifest.extras is msgspec.UNSET
    document = json.loads(CliRunner().invoke(main, ["inspect", str(artifact.path.parent), "--json"]).stdout)
    assert [each["file"] for each in document["extras"]] == ["mobilevit_xxs.bpte", "mobilevit_xxs.etrecord"]
    again = made(tmp_path, bundle=True)  # not up to date: the bundle is missing
    bundle = again.path.with_suffix(".bpte")
    assert {each.name for each in again.path.parent.iterdir()} == {
        again.path.name,
        bundle.name,
        "manifest.json",
        "reference.safetensors",
    }
    again.require_unchanged()
    bundle.write_bytes(bundle.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match=r"\.bpte is not the file that its manifest describes"):
        again.require_unchanged()
    bundle.unlink()
    with pytest.raises(ArtifactError, match=r"names the file 'mobilevit_xxs.bpte', which is not in its folder"):
        open_artifact(again.path.parent)


@pytest.mark.slow
def test_a_file_of_several_sizes_has_test_vectors_for_each(tmp_path: Path) -> None:
    from executorch.devtools.bundled_program.serialize import deserialize_from_flatbuffer_to_bundled_program as read

    several = made(tmp_path, sizes=((32, 32), (32, 48)), bundle=True)
    suites = read(several.path.with_suffix(".bpte").read_bytes()).method_test_suites
    assert {suite.method_name for suite in suites} == {"forward", "image_32x48"}
    shapes = {suite.method_name: {tuple(case.inputs[0].val.sizes) for case in suite.test_cases} for suite in suites}
    assert shapes == {"forward": {(1, 3, 32, 32)}, "image_32x48": {(1, 3, 32, 48)}}


def test_what_makes_none_is_refused_or_noted() -> None:
    spec = tiny_spec("mobilevit", 32)
    several = prepare(checkpoint(), Preparation(image_sizes=((32, 32), (32, 48)))).spec
    executorch = plan_conversions(["executorch"], [], None)
    assert plan_extras(executorch, ("bundle", "etrecord"), spec) == []
    with pytest.raises(RequestError, match=r"executorch fp32 has no `etrecord`: .* a single method"):
        plan_extras(executorch, ("etrecord",), several)
    vulkan = plan_conversions(["executorch"], [], "vulkan")
    with pytest.raises(RequestError, match="executorch-vulkan fp32 has no `bundle`: of the backend xnnpack alone"):
        plan_extras(vulkan, ("bundle",), spec)
    pytest.importorskip("litert_torch")
    tflite = plan_conversions(["tflite"], [], None)
    with pytest.raises(RequestError, match=r"tflite fp32 has no `bundle`: only \.pte files have one"):
        plan_extras(tflite, ("bundle",), spec)
    assert plan_extras([*tflite, *executorch], ("bundle",), spec) == [
        "tflite fp32 has no `bundle`: only .pte files have one"
    ]
