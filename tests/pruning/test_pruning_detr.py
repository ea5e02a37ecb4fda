"""Pruning of a detector: what is its own beside what every family promises in the other files."""

from __future__ import annotations

import copy
import json

import msgspec
import pytest
import torch
from click.testing import CliRunner
from prunable import SIZE, answers, masked, small_model
from shapes import CLASSES, write_shapes

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.models.registry import model_spec
from mobilevit_sdk.pruning import PruningImages, prune
from mobilevit_sdk.pruning.statistics import measure_statistics
from mobilevit_sdk.pruning.structure import Pruning, Structure
from mobilevit_sdk.pruning.surgery import cut

PUBLISHED = "434eaaa78ed59880d57f8b04927246da9454bed74b322025edad133b4ca464a6"  # of detr_resnet50, since its first file


def images() -> torch.Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_config_of_the_unpruned_network_is_what_files_hold():
    assert model_spec("detr_resnet50").config_sha256 == PUBLISHED


@torch.no_grad()
def test_the_first_bottleneck_keeps_its_shortcut_where_it_writes_as_many_channels_as_it_reads():
    model, spec = small_model("detr")
    structure = Structure(model.double())
    streams = [i for i, group in enumerate(structure.groups) if group.kind == "stream"]
    pruning = Pruning(structure)
    kept = structure.groups[streams[0]].size
    pruning.remove(streams[1], [list(range(kept, structure.groups[streams[1]].size))])
    pruned, pruned_spec = cut(model, spec, pruning)
    assert pruned_spec.config["widths"]["stages"][:2] == [kept, kept]
    expected = answers(masked(pruning), images())
    assert (answers(pruned, images()) - expected).abs().max() <= 1e-9 * expected.abs().max()


def test_without_images_magnitude_judges_and_the_command_says_so(tmp_path):
    model, spec = small_model("detr")
    save_checkpoint(model, spec, tmp_path / "small.safetensors")
    arguments = ["prune", str(tmp_path / "small.safetensors"), "--macs", "0.6", "--multiple", "2", "--no-bench"]
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["request"]["importance"], report["request"]["data_free"]) == ("magnitude", True)
    assert "none are synthesized for a detector: that usually destroys it; give --data" in report["warnings"][0]
    assert 0.5 < report["after"]["macs"] / report["before"]["macs"] <= 0.6
    again = load_checkpoint(tmp_path / "out" / "pruned.safetensors")
    assert [output.shape for output in again.spec.outputs] == [output.shape for output in spec.outputs]
    with pytest.warns(UserWarning, match="judged by magnitude"):
        found = prune(Checkpoint(model, spec, "own", "here"), macs=0.6, multiple=2)
    assert torch.equal(answers(found.model, images().float()), answers(again.model, images().float()))


def test_frozen_norms_keep_their_statistics_and_others_are_measured():
    class Images:
        def batches(self, size, dtype):
            yield images().to(dtype), None

    for frozen in (True, False):
        model, _ = small_model("detr", frozen_norm=frozen)
        before = copy.deepcopy(model.state_dict())
        measure_statistics(model, Images())
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        norms = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
        assert changed == (set() if frozen else norms)
        assert all("backbone" in name for name in norms)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small detector of shapes with random weights, and pictures of shapes to train and to test on."""
    folder = tmp_path_factory.mktemp("shapes")
    model, spec = small_model("detr", num_classes=3, frozen_norm=False)
    squashed = msgspec.structs.replace(spec.preprocessing, resize_mode="squash")
    spec = msgspec.structs.replace(spec, preprocessing=squashed, labels=CLASSES)
    save_checkpoint(model, spec, folder / "small.safetensors")
    write_shapes(folder / "train.parquet", 12, 1)
    write_shapes(folder / "test.parquet", 4, 2)
    return folder


def run(files, out, *more):
    given = ["prune", files / "small.safetensors", "--data", files / "train.parquet", "--samples", 8, "--steps", 2]
    given += ["--macs", 0.7, "--multiple", 2, "--no-bench", "--json", "--out", out, *more]
    done = CliRunner().invoke(main, list(map(str, given)))
    return done.exit_code, json.loads(done.stdout)


def test_labeled_boxes_judge_the_units_and_average_precision_the_network(files, tmp_path, monkeypatch):
    monkeypatch.setattr("mobilevit_sdk.pruning.sweep.SHARES", (0.9,))
    with_test = ("--test-data", files / "test.parquet", "--device", "cpu")
    code, report = run(files, tmp_path / "out", *with_test, "--sweep", "--finetune", 1)
    assert code == 0, report
    assert (report["request"]["importance"], report["judged_by"], report["warnings"]) == ("taylor", "taylor", [])
    assert 0.6 < report["after"]["macs"] / report["before"]["macs"] <= 0.7
    for measured in (report["before"], report["after"], report["frontier"][0], report["finetuned"]):
        assert measured["top1"] is None
        assert 0 <= measured["ap"] <= 1
    assert (tmp_path / "out" / "frontier.png").exists()
    tuned = load_checkpoint(report["finetuned"]["checkpoint"])
    assert tuned.spec.config["widths"] == load_checkpoint(tmp_path / "out" / "pruned.safetensors").spec.config["widths"]
    assert "teacher" not in tuned.spec.provenance
    code, again = run(files, tmp_path / "out", *with_test, "--finetune", 1)
    assert (code, again["finetuned"]) == (0, report["finetuned"])  # neither pruned nor trained again
    code, refusal = run(files, tmp_path / "other", *with_test, "--finetune", 1, "--distill", "hard")
    assert (code, "learns from labels alone" in refusal["error"]) == (2, True)


def test_large_images_of_a_detector_are_judged_a_few_at_a_time(files, monkeypatch):
    spec = load_checkpoint(files / "small.safetensors").spec
    judged = PruningImages(open_dataset(files / "train.parquet", labeled=True), spec, 6)
    assert [len(images) for images, _ in judged.batches(4)] == [4, 2]
    monkeypatch.setattr("mobilevit_sdk.pruning.images._PIXELS", 3 * SIZE * SIZE)
    found = list(judged.batches(4))
    assert [len(images) for images, _ in found] == [3, 3]
    assert [len(targets.classes) for _, targets in found] == [3, 3]


def test_a_pruned_backbone_trains_as_a_whole():
    model, spec = small_model("detr")
    with pytest.warns(UserWarning, match="without training images"):
        pruned = prune(Checkpoint(model, spec, "own", "here"), macs=0.7, multiple=2).model
    for network, stays in ((model, True), (pruned, False)):
        network.freeze_pretrained()
        assert network.backbone.stem.conv.weight.requires_grad is not stays
