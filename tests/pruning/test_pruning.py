"""Judging, selecting and pruning as a whole, in Python and by `mobilevit prune`."""

from __future__ import annotations

import copy
import hashlib
import json
from functools import partial

import pytest
import torch
from click.testing import CliRunner
from labeled_images import pictures, write_folder, write_parquet
from PIL import Image
from prunable import CONFIGS, SIZE, answers, joined, small_model
from torch import nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.pruning import PruningImages, Request, prune, prune_network
from mobilevit_sdk.pruning.cost import Budget, mac_rates
from mobilevit_sdk.pruning.importance import Importance, batch_norm_scale, magnitude, random, taylor
from mobilevit_sdk.pruning.plots import plot_kept
from mobilevit_sdk.pruning.pruner import kept_of
from mobilevit_sdk.pruning.selection import select
from mobilevit_sdk.pruning.statistics import measure_statistics
from mobilevit_sdk.pruning.structure import Pruning, Structure
from mobilevit_sdk.pruning.surgery import cut

FAMILIES = sorted(CONFIGS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("data") / "train.parquet", pictures(40))


def batches(count=2):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        images = torch.rand(6, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
        yield images, torch.randint(5, (6,), generator=generator)


def loss(found, labels):
    return nn.functional.cross_entropy(joined(found), labels)


def loss_of(model, images, labels):
    return loss(model(images), labels)


@pytest.mark.parametrize("family", FAMILIES)
def test_taylor_is_the_derivative_of_the_loss_by_a_gate_on_the_unit(family):
    """What reads a unit, or writes it where nothing has columns for it, scaled a little: the loss moves so much."""
    model, _ = small_model(family)
    structure = Structure(model.double())
    ((images, labels),) = batches(1)
    found = taylor(structure, loss, [(images, labels)], lambda done: None)
    names = {module: name for name, module in model.named_modules()}
    for index in range(0, len(structure.groups), 3):
        group = structure.groups[index]
        scale, moved = 1e-6, []
        for sign in (-1, 1):
            gated = copy.deepcopy(model)
            for place in group.parts[0]:
                if place.effect:
                    tensor = getattr(gated.get_submodule(names[place.owner]), place.tensor).data
                    tensor.movedim(place.axis, 0)[place.start : place.start + place.rows] *= 1 + sign * scale
            with torch.no_grad():
                moved.append(float(loss_of(gated, images, labels)))
        slope = (moved[1] - moved[0]) / (2 * scale)
        assert abs(slope) == pytest.approx(float(found.groups[index][0, 0]), rel=1e-3, abs=1e-7), group.paths


def test_taylor_averages_absolute_values_over_batches():
    model, _ = small_model("mobilevit")
    structure = Structure(model.double())
    each = [taylor(structure, nn.functional.cross_entropy, [batch], lambda done: None) for batch in batches()]
    both = taylor(structure, nn.functional.cross_entropy, batches(), lambda done: None)
    for index, scores in both.groups.items():
        torch.testing.assert_close(scores, (each[0].groups[index] + each[1].groups[index]) / 2)
    assert both.blocks[0] == pytest.approx((each[0].blocks[0] + each[1].blocks[0]) / 2)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_block_is_judged_by_what_it_adds():
    model, _ = small_model("mobilevit")
    structure = Structure(model.double())
    ((images, labels),) = batches(1)
    found = taylor(structure, nn.functional.cross_entropy, [(images, labels)], lambda done: None).blocks
    block = structure.blocks[0].module
    moved = []
    for gate in (1 - 1e-4, 1 + 1e-4):
        gated = partial(lambda gate, module, given, output: given[0] + gate * (output - given[0]), gate)
        hook = block.register_forward_hook(gated)
        with torch.no_grad():
            moved.append(float(loss_of(model, images, labels)))
        hook.remove()
    assert found[0] == pytest.approx(abs(moved[1] - moved[0]) / 2e-4, rel=1e-3)


def test_magnitude_and_batch_norm_scale_find_what_was_made_small():
    model, _ = small_model("mobilevit")
    structure = Structure(model)
    index = next(i for i, group in enumerate(structure.groups) if group.kind == "expansion")
    with torch.no_grad():
        for place in structure.groups[index].parts[0]:
            if place.tensor == "weight":
                place.owner.weight.movedim(place.axis, 0)[3] *= 1e-3
    for importance in (magnitude(structure), batch_norm_scale(structure)):
        assert int(importance.groups[index][0].argmin()) == 3
    assert not any(structure.groups[i].kind == "FFN" for i in batch_norm_scale(structure).groups)  # it has no BatchNorm


def test_selection_takes_what_matters_least_for_what_it_saves():
    model, spec = small_model("mobilevit")
    structure = Structure(model)
    budget = Budget(structure, mac_rates(structure, spec.preprocessing.image_size))
    cheap = next(i for i, group in enumerate(structure.groups) if group.kind == "FFN")
    everything = {i: torch.ones(len(group.parts), group.size) for i, group in enumerate(structure.groups)}
    everything[cheap] = torch.full_like(everything[cheap], 1e-9)
    pruning = select(budget, Importance(everything, {}), 0.99 * budget.total, multiple=8)
    assert set(pruning.units) == {cheap}
    assert budget.left <= 0.99 * budget.total


@pytest.mark.parametrize("family", FAMILIES)
def test_no_group_is_ever_emptied(family):
    model, spec = small_model(family)
    structure = Structure(model)
    budget = Budget(structure, mac_rates(structure, spec.preprocessing.image_size))
    pruning = select(budget, random(structure, 0), 0.0, multiple=8)
    assert all(pruning.kept(index) >= max(1, group.minimum) for index, group in enumerate(structure.groups))
    pruned, _ = cut(model, spec, pruning)
    assert answers(pruned, torch.rand(1, 3, SIZE, SIZE)).isfinite().all()


def test_in_many_steps_too_a_group_keeps_multiples(data):
    model, spec = small_model("mobilevit")
    images = PruningImages(open_dataset(data, labeled=True), spec, 16)
    request = Request(keep=0.35, steps=6, samples=16, batch_size=16, multiple=4, blocks=False)
    widths = prune_network(model, spec, request, images).model.config.widths
    hidden = [block.mlp_dim for blocks in widths.transformers for block in blocks]
    assert min(hidden) < 20
    assert all(width % 4 == 0 for width in hidden)


def test_the_last_to_go_is_no_larger_than_what_is_still_needed():
    model, spec = small_model("mobilevit")
    structure = Structure(model)
    budget = Budget(structure, mac_rates(structure, spec.preprocessing.image_size))
    savings = {number: budget.saving_of_block(number) for number in range(len(structure.blocks))}
    groups = random(structure, 0).groups
    for index in groups:  # each unit is worth what it saves, blocks a little less
        parts = len(groups[index])
        groups[index][:] = budget.saving(index, [[0]] * parts) / parts
    importance = Importance(groups, {number: 0.9 * saving for number, saving in savings.items()})
    pruning = select(budget, importance, budget.total - min(savings.values()) / 2, multiple=1)
    assert not pruning.blocks
    pruning = select(budget, importance, budget.left - max(savings.values()), multiple=1)
    assert pruning.blocks


@pytest.mark.parametrize("measure", ["macs", "params"])
def test_the_share_that_was_asked_for_is_what_is_left(measure, data):
    model, spec = small_model("mobilevitv2")
    images = PruningImages(open_dataset(data, labeled=True), spec, 16)
    request = Request(measure=measure, keep=0.6, steps=2, samples=16, batch_size=8, multiple=2)
    pruned = prune_network(model, spec, request, images)
    before, after = pruned.macs if measure == "macs" else pruned.parameters
    assert 0.5 < after / before <= 0.6
    assert sum(parameter.numel() for parameter in pruned.model.parameters()) == pruned.parameters[1]
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_a_latency_table_decides_what_is_worth_saving():
    model, spec = small_model("mobilevit")
    table = mac_rates(Structure(model), (SIZE, SIZE))
    only = dict.fromkeys(table, 0.0) | {"stages.1.2.transformer.0.mlp.fc1.weight": 1.0}
    checkpoint = Checkpoint(model, spec, "own", "here")
    pruned = prune(checkpoint, latency=0.6, latency_table=only, importance="magnitude", multiple=1)
    assert pruned.model.stages[1][2].transformer[0].mlp.fc1.weight.numel() <= 0.6 * 24 * 16
    others = [[p.shape for p in network.stages[2][1].transformer.parameters()] for network in (model, pruned.model)]
    assert others[0] == others[1]
    with pytest.raises(RequestError, match="needs a latency table"):
        prune(checkpoint, latency=0.6, importance="magnitude")


def test_statistics_are_measured_anew(data):
    model, spec = small_model("efficientvit")
    images = PruningImages(open_dataset(data, labeled=True), spec, 32)
    norm = model.patch_embed[0].norm
    measure_statistics(model, images)
    ((batch, _),) = images.batches(32)
    convolved = model.patch_embed[0].conv(batch)
    torch.testing.assert_close(norm.running_mean, convolved.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, convolved.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert not model.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one share to keep"),
        ({"macs": 0.5, "params": 0.5}, "give one share to keep"),
        ({"macs": 1.5}, "between 0 and 1, not 1.5"),
        ({"macs": 0.0}, "between 0 and 1, not 0"),
        ({"macs": 0.7, "importance": "magnitude", "steps": 0}, "steps must be 1 or more"),
        ({"macs": 0.7, "importance": "guess"}, "not a request for a pruning: .*'guess'"),
        ({"macs": 0.7, "step": 3}, "unknown field `step`"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(arguments, message):
    model, spec = small_model("mobilevit")
    with pytest.raises(RequestError, match=message):
        prune(Checkpoint(model, spec, "own", "here"), **arguments)


@pytest.mark.parametrize("measure", ["macs", "latency"])
def test_a_share_that_cannot_be_had_names_the_nearest_which_can(measure):
    model, spec = small_model("mobilevit")
    checkpoint = Checkpoint(model, spec, "own", "here")
    table = dict.fromkeys(mac_rates(Structure(model), (SIZE, SIZE)), 0.5)  # microseconds in proportion
    asked = partial(prune, checkpoint, importance="magnitude", latency_table=table)
    with pytest.raises(RequestError, match=rf"0\.001 of the {measure} cannot be had .* nearest is (0\.\d+)") as refusal:
        asked(**{measure: 0.001})
    nearest = float(str(refusal.value).rsplit(" ", 1)[1])
    pruned = asked(**{measure: nearest})
    assert nearest - 0.01 < pruned.macs[1] / pruned.macs[0] <= nearest


def test_a_model_without_channel_groups_is_refused():
    _, spec = small_model("mobilevit")
    with pytest.raises(RequestError, match="does not say which of its channels belong together"):
        prune(Checkpoint(nn.Linear(3, 2), spec, "own", "here"), macs=0.7, importance="magnitude")


def test_data_of_other_classes_are_refused(tmp_path):
    model, spec = small_model("mobilevit", num_classes=3)
    folder = write_folder(tmp_path, pictures(10))
    with pytest.raises(RequestError, match="has 5 classes, but the head of mobilevit_xxs has 3"):
        prune(Checkpoint(model, spec, "own", "here"), macs=0.7, data=folder)


def _run(*arguments):
    result = CliRunner().invoke(main, ["prune", *map(str, arguments), "--no-bench", "--json"])
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def checkpoint(tmp_path):
    model, spec = small_model("mobilevit")
    save_checkpoint(model, spec, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def test_the_command_prunes_fine_tunes_and_goes_on_where_it_stopped(checkpoint, data, tmp_path):
    before = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    out = tmp_path / "out"
    arguments = (checkpoint, "--macs", 0.7, "--data", data, "--test-data", data, "--samples", 16, "--steps", 2)
    arguments += ("--multiple", 2, "--out", out)
    code, document = _run(*arguments)
    assert code == 0
    assert 0.6 < document["after"]["macs"] / document["before"]["macs"] <= 0.7
    assert document["after"]["bytes"] < document["before"]["bytes"]
    assert {"pruned.safetensors", "report.json", "kept.png"} == {path.name for path in out.iterdir()}
    assert {(row["stage"], row["kind"]) for row in document["kept"]} >= {("stage 2", "q/k"), ("stage 2", "FFN")}
    pruned = load_checkpoint(out / "pruned.safetensors")
    assert pruned.spec.provenance["pruned_from"]["sha256"] == before
    written = (out / "pruned.safetensors").stat().st_mtime_ns
    code, tuned = _run(*arguments, "--finetune", 1, "--sweep")
    assert code == 0
    assert tuned["after"] == document["after"]
    assert (out / "pruned.safetensors").stat().st_mtime_ns == written  # not pruned again
    assert [row["keep"] for row in tuned["frontier"]][:3] == [0.9, 0.8, 0.7]
    finished = load_checkpoint(tuned["finetuned"]["checkpoint"])
    assert finished.spec.config == pruned.spec.config
    assert finished.spec.provenance["teacher"]["sha256"] == before
    assert _run(*arguments, "--finetune", 1)[1]["finetuned"] == tuned["finetuned"]
    code, refusal = _run(*arguments[:1], "--macs", 0.5, *arguments[3:])
    assert code == 2
    assert "holds another pruning" in refusal["error"]
    assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() == before


def test_the_command_never_writes_over_its_input(checkpoint):
    path = checkpoint.rename(checkpoint.with_name("pruned.safetensors"))
    before = path.read_bytes()
    code, _ = _run(path, "--macs", 0.7, "--out", path.parent)
    assert code == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--macs", 0.7, "--sweep"), "give --test-data"),
        (("--macs", 0.7, "--finetune", 1), "needs --data"),
        (("--params", 1.2), "--params takes the share to keep"),
    ],
)
def test_the_command_says_what_is_missing(checkpoint, arguments, message, tmp_path):
    code, document = _run(checkpoint, *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert message in document["error"]
    assert not (tmp_path / "out").exists()


def test_channels_of_a_stream_are_counted_once_whatever_heads_are_left():
    model, spec = small_model("efficientvit")
    structure = Structure(model)
    (heads,) = (i for i, group in enumerate(structure.groups) if group.paths == (("widths", "blocks", 1, 1, "heads"),))
    pruning = Pruning(structure)
    pruning.remove(heads, [[1]])
    pruned, _ = cut(model, spec, pruning)
    rows = {(row.stage, row.kind): (row.before, row.after) for row in kept_of(structure, Structure(pruned))}
    assert rows["stage 2", "stream"] == (32, 32)
    assert rows["stage 2", "heads"] == (8, 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plot_has_a_bar_for_every_kind_of_group(family, tmp_path):
    model, spec = small_model(family)
    pruned = prune(Checkpoint(model, spec, "own", "here"), macs=0.7, importance="magnitude", multiple=2)
    kinds = {group.kind for group in Structure(model).groups}
    assert {row.kind for row in pruned.kept} == kinds
    assert all(row.after <= row.before for row in pruned.kept)
    plot_kept(pruned.kept, tmp_path / "kept.png", "")
    assert Image.open(tmp_path / "kept.png").width > 300
