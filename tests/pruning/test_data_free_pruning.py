"""Pruning without training images: on synthesized ones, and never silently."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
import torch
from click.testing import CliRunner
from labeled_images import pictures, write_parquet
from prunable import small_model

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.pruning import PruningImages, Request, prune, prune_network, pruner
from mobilevit_sdk.quantization import synthesis


def _run(*arguments):
    result = CliRunner().invoke(main, ["prune", *map(str, arguments), "--multiple", "2", "--no-bench", "--json"])
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def data(tmp_path):
    return write_parquet(tmp_path / "train.parquet", pictures(40))


@pytest.fixture
def checkpoint(tmp_path):
    model, spec = small_model("mobilevit")
    save_checkpoint(model, spec, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


@pytest.fixture
def few_steps(monkeypatch, tmp_path):
    """Images are synthesized in two steps each, and kept in this test's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(synthesis, "SynthesisOptions", partial(synthesis.SynthesisOptions, steps=2))


def test_without_data_synthesized_images_judge_and_the_loss_is_said(checkpoint, data, tmp_path, few_steps):
    arguments = (checkpoint, "--macs", 0.7, "--out", tmp_path / "out")
    code, document = _run(*arguments)
    assert code == 0
    assert (document["request"]["importance"], document["request"]["data_free"]) == ("taylor", True)
    lost, unmeasured = document["warnings"]
    assert re.search("synthesized from the network.* costs accuracy; give --data", lost)
    assert unmeasured == "accuracy was not measured: give --test-data"
    kept, pruned = load_checkpoint(checkpoint), load_checkpoint(tmp_path / "out" / "pruned.safetensors")
    name = "stem.norm.running_mean"
    assert not torch.equal(kept.model.state_dict()[name], pruned.model.state_dict()[name])  # measured again
    code, refusal = _run(*arguments, "--data", data)
    assert (code, "holds another pruning" in refusal["error"]) == (2, True)


def test_where_gradients_on_synthesized_images_miss_a_cliff_another_criterion_wins(data, monkeypatch):
    model, spec = small_model("mobilevit")
    images = PruningImages(open_dataset(data, labeled=True), spec, 40)
    shares = {"taylor": 0.1, "magnitude": 0.4, "random": 0.3}
    by_parameters = {
        sum(p.numel() for p in pruned.model.parameters()): name
        for name in shares
        for pruned in [prune_network(model, spec, Request(importance=name, multiple=2), images)]
    }
    assert len(by_parameters) == 3
    monkeypatch.setattr(
        pruner, "recognized", lambda model, _: shares[by_parameters[sum(p.numel() for p in model.parameters())]]
    )
    assert prune_network(model, spec, Request(multiple=2, data_free=True), images).judged_by == "magnitude"
    assert prune_network(model, spec, Request(multiple=2), images).judged_by == "taylor"


def test_other_criteria_without_data_warn_that_they_destroy(checkpoint, tmp_path):
    arguments = ["prune", checkpoint, "--macs", "0.7", "--multiple", "2", "--importance", "magnitude", "--no-bench"]
    done = CliRunner().invoke(main, [*map(str, arguments), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    shown = " ".join(done.stderr.split())
    assert "warning: without training images, magnitude usually destroys a network" in shown
    assert "give --data, or leave out --importance" in shown
    with pytest.warns(UserWarning, match="random usually destroys a network.*give `data`, or leave out `importance`"):
        prune(checkpoint, macs=0.7, importance="random", multiple=2)


def test_with_data_and_a_test_nothing_is_warned_of(checkpoint, data, tmp_path):
    more = ("--data", data, "--test-data", data, "--samples", 16, "--steps", 1)
    assert _run(checkpoint, "--macs", 0.8, *more, "--out", tmp_path / "out")[1]["warnings"] == []
