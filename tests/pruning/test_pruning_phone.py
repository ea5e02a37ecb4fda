"""Through to the phone: pruned networks convert like any other, and the report has the latency of their files."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from helpers import sampled
from labeled_images import pictures, write_parquet
from made_once import in_this_process
from prunable import CONFIGS, SIZE, small_model

from mobilevit_sdk.artifacts.artifact import open_artifact
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.conversion.pipeline import convert
from mobilevit_sdk.formats.converter import converters
from mobilevit_sdk.layers import ConvNormAct
from mobilevit_sdk.parity import passed
from mobilevit_sdk.pruning import latency as latency_module
from mobilevit_sdk.pruning import phone_files as files_module
from mobilevit_sdk.pruning import prune
from mobilevit_sdk.pruning.latency import measure_table
from mobilevit_sdk.pruning.phone_files import timed_formats


@pytest.fixture
def original(request, tmp_path):
    """A small checkpoint of the family that the test names."""
    model, spec = small_model(request.param)
    save_checkpoint(model, spec, tmp_path / "small.safetensors")
    return load_checkpoint(tmp_path / "small.safetensors")


@pytest.fixture
def pruned(original, tmp_path):
    found = prune(original, macs=0.6, importance="magnitude", multiple=2)
    save_checkpoint(found.model, found.spec, tmp_path / "pruned.safetensors")
    return load_checkpoint(tmp_path / "pruned.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("original", sampled(sorted(CONFIGS), "mobilevit", "vit"), indirect=True)
def test_a_pruned_network_converts_to_every_format_in_one_delegate_and_is_verified(pruned, tmp_path):
    for toolchain in ("coreai_torch", "coremltools", "executorch", "litert_torch", "onnxscript"):
        pytest.importorskip(toolchain)
    with in_this_process():
        result = convert(pruned, out=tmp_path, precisions=["fp32"])
    assert result.failures == []
    assert [artifact.manifest.format for artifact in result.artifacts] == sorted(converters())
    assert passed(result.verdicts), result.verdicts
    for artifact in result.artifacts:
        assert artifact.manifest.spec.config["widths"] == pruned.spec.config["widths"]
        assert artifact.manifest.max_rank <= 4
        assert artifact.manifest.delegates in (1, None)
        assert not artifact.manifest.undelegated_ops
        assert artifact.manifest.warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("original", ["efficientvit"], indirect=True)
def test_a_pruned_network_of_which_a_channel_is_dead_quantizes_to_int8(pruned, tmp_path):
    pytest.importorskip("litert_torch")
    images = write_parquet(tmp_path / "images.parquet", pictures(60))
    result = convert(pruned, out=tmp_path, formats=["tflite"], precisions=["fp32", "int8"], calibration=images)
    assert result.failures == []
    assert {artifact.manifest.precision for artifact in result.artifacts} == {"fp32", "int8"}
    assert result.artifacts[1].manifest.quantization.calibrated_with > 0


@pytest.mark.slow
@pytest.mark.parametrize("original", ["mobilevit"], indirect=True)
def test_the_report_compares_the_files_of_both_networks_and_keeps_them(original, tmp_path, monkeypatch):
    pytest.importorskip("litert_torch")
    pytest.importorskip("executorch")
    out = tmp_path / "out"

    def convert_here(*arguments, **options):
        with in_this_process():
            return convert(*arguments, **options)

    monkeypatch.setattr(files_module, "convert", convert_here)

    def run():
        arguments = ["prune", original.source, "--macs", "0.6", "--multiple", "2", "--out", str(out)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return json.loads((out / "report.json").read_text())["latency"]

    found = run()
    assert {row["format"] for row in found["rows"]} == {"executorch", "onnx", "tflite"} == set(timed_formats())
    for row in found["rows"]:
        before, after = row["median_ms"]
        assert row["ratio"] == pytest.approx(after / before)
        names = [f"{which}/mobilevit_xxs-{row['format']}-fp32" for which in ("unpruned", "pruned")]
        files = [open_artifact(out / "files" / name) for name in names]
        assert row["bytes"] == [file.path.stat().st_size for file in files]
        assert row["bytes"][1] < row["bytes"][0]
    assert run() == found  # neither converted nor measured again


@pytest.mark.slow
@pytest.mark.parametrize("original", ["mobilevit"], indirect=True)
def test_layers_are_timed_in_the_runtime_of_a_phone_format(original):
    pytest.importorskip("executorch")
    heard = []
    table = measure_table(original.model, (SIZE, SIZE), heard.append)
    assert min(table.values()) > 0
    assert heard[-1].done == heard[-1].total > 1


def test_a_layer_is_timed_with_its_norm_and_activation_and_layers_alike_only_once(monkeypatch):
    model, _ = small_model("tiny_vit")
    timed = []

    class Converter:
        def time_layers(self, layers, report):
            timed.extend(layers)
            return [float(i + 1) for i in range(len(layers))]

    monkeypatch.setattr(latency_module, "converters", lambda: {"fake": Converter()})
    monkeypatch.setattr(latency_module, "timing_format", lambda: "fake")
    monkeypatch.setattr(latency_module, "run_in_child", lambda function, *given, **options: function(*given))
    monkeypatch.setattr(latency_module, "emit", lambda event: None)
    table = measure_table(model.double(), (SIZE, SIZE))
    assert any(isinstance(layer, ConvNormAct) for layer, _ in timed)
    assert all(parameter.dtype == torch.float32 for layer, _ in timed for parameter in layer.parameters())
    assert len({f"{layer} {shape}" for layer, shape in timed}) == len(timed)
    blocks = [f"stages.1.blocks.{i}.mlp.fc1.weight" for i in (0, 1)]
    assert table[blocks[0]] == table[blocks[1]] > 0


def test_without_such_a_runtime_pytorch_times_them(monkeypatch):
    model, _ = small_model("tiny_vit")
    monkeypatch.setattr(latency_module, "converters", dict)
    assert latency_module.timing_format() is None
    assert min(measure_table(model, (SIZE, SIZE)).values()) > 0
