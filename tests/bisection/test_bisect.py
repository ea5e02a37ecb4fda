"""The search for the first divergence, on artifacts whose values are made here: float32, images with channels last."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import msgspec
import numpy as np
import pytest
import torch
from helpers import tiny_spec, write_artifact
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mobilevit_sdk.artifacts.reference import reference_of
from mobilevit_sdk.bisection import write_bisection
from mobilevit_sdk.bisection.axis_permutation import best_permutation
from mobilevit_sdk.bisection.comparison import align
from mobilevit_sdk.bisection.costs import costs_db
from mobilevit_sdk.bisection.folded import folded_into, weight_holders
from mobilevit_sdk.bisection.graph import TracedGraph, block_of
from mobilevit_sdk.bisection.search import check_reference, diagnose, places_of
from mobilevit_sdk.bisection.tensor_alignment import Follower, find_places
from mobilevit_sdk.bisection.verdict import Bisection, first_unplaced, sum_db
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.formats.taps import Tap
from mobilevit_sdk.models.registry import build_model, model_spec
from mobilevit_sdk.parity.gate import judge
from mobilevit_sdk.parity.metrics import sqnr_db
from mobilevit_sdk.parity.runs import Run

FOLDED = ("view", "reshape", "permute", "flatten")  # what the files of these tests have no operator for


@pytest.fixture(scope="module")
def model():
    return random_checkpoint(tiny_spec(), 0).model


@pytest.fixture(scope="module")
def graph(model):
    return TracedGraph(model, "coreml", tiny_spec())


@pytest.fixture(scope="module")
def cases():
    return builtin_cases(tiny_spec().preprocessing)


def run(graph, cases, spoil=lambda step, value: value):
    """What a file of that graph would tell: every operator's result, in float32 and with channels last."""
    taps, values = [], []
    for case in cases:
        follower, found = Follower(graph, case.image), []
        for step in graph.steps:
            value = spoil(step, follower.expected(step)).float().double()
            follower.keep(step, value)
            if step.operator not in FOLDED:
                found.append(value.numpy().astype(np.float32))
                if value.ndim == 4:
                    found[-1] = found[-1].transpose(0, 2, 3, 1)
        values.append(found)
    steps = [step for step in graph.steps if step.operator not in FOLDED]
    taps = tuple(Tap(s.operator.upper(), s.path, value.shape) for s, value in zip(steps, values[0], strict=True))
    return taps, values


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_the_scores_of_few_classes_are_found_in_a_file(classes, cases):
    """Elsewhere so few values could be any tensor's; the network's answer is where they are looked for."""
    spec = tiny_spec(num_classes=classes)
    few = TracedGraph(random_checkpoint(spec, 0).model, "coreml", spec)
    _, values = run(few, cases[:1])
    places = find_places(few, cases[0].image, values[0], 40)
    assert few.answers[0] in places
    assert first_unplaced(few, places) is None


def verdict(tmp_path, model, graph, cases, tapped, fresh=None, precision="fp32"):
    reference = reference_of(model, tiny_spec().preprocessing, tuple(cases))
    artifact = write_artifact(tmp_path / "artifact", tiny_spec(), reference, precision=precision)
    scores = np.stack([values[-1].reshape(-1) for values in tapped[1]])
    judged = judge(Run(artifact, "fake", "1.0", scores, reference))
    return diagnose(judged, graph, cases, tapped, fresh or run(graph, cases))


def changed(model, change):
    other = copy.deepcopy(model)
    with torch.no_grad():
        change(other)
    return TracedGraph(other, "coreml", tiny_spec())


def one_weight(network):
    network.stages[0][1].expand.conv.weight[3, 2] += 0.3


def no_bias(network):
    network.stages[1][1].transformer[1].mlp.fc2.bias.zero_()


def swapped(network):
    for tensor in network.stages[1][1].transformer[0].attention.qkv.parameters():
        tensor[:32] = torch.cat((tensor[16:32], tensor[:16]))


def no_gain(network):
    network.stages[1][1].transformer[1].norm2.weight.fill_(1)


@pytest.mark.parametrize(
    ("change", "block", "layers"),
    [
        (one_weight, "stages.0.1", {"stages.0.1.expand.conv"}),
        (no_bias, "stages.1.1.transformer.1", {"stages.1.1.transformer.1.mlp.fc2"}),
        (swapped, "stages.1.1.transformer.0", {f"stages.1.1.transformer.0.attention.{part}" for part in "qk"}),
        (no_gain, "stages.1.1.transformer.1", {"stages.1.1.transformer.1.mlp.fc1"}),  # the phone graph has it there
        (lambda network: network.head.bias.zero_(), "head", {"head"}),
        (lambda network: network.stem.norm.bias.zero_(), "stem", {"stem.conv"}),
    ],
)
def test_a_planted_fault_is_found_where_it_is_and_nowhere_else(tmp_path, model, graph, cases, change, block, layers):
    found = verdict(tmp_path, model, graph, cases[:3], run(changed(model, change), cases[:3]))
    assert (found.status, found.cause) == ("diverged", "file")
    assert found.culprit.block == block
    assert found.culprit.layer in layers
    assert found.culprit.created_db < found.culprit.before_db - 40
    assert found.others == len(layers) - 1
    assert [each.block for each in found.blocks if each.diverged] == [block]


def test_the_operator_that_overflows_first_is_found(tmp_path, model, graph, cases):
    def spoil(step, value):
        return value * float("inf") if step.path == "stages.1.1.transformer.1.mlp.fc1" else value

    found = verdict(tmp_path, model, graph, cases[:2], run(graph, cases[:2], spoil))
    assert (found.status, found.cause) == ("diverged", "file")
    assert found.culprit.layer == "stages.1.1.transformer.1.mlp.fc1"
    assert found.culprit.sqnr_db == found.culprit.created_db == -200


def test_a_healthy_file_agrees_and_its_weakest_operator_is_named(tmp_path, model, graph, cases):
    def spoil(step, value):
        return value.half() if step.path == "stages.1.1.transformer.0.mlp.fc1" else value

    found = verdict(
        tmp_path, model, graph, cases[:2], run(graph, cases[:2], spoil), run(graph, cases[:2], spoil), "fp16"
    )
    assert (found.status, found.cause, found.culprit) == ("agrees", None, None)
    assert found.weakest.layer == "stages.1.1.transformer.0.mlp.fc1"
    assert not any(block.diverged for block in found.blocks)


def test_a_fault_within_the_threshold_is_told_but_has_not_diverged(tmp_path, model, graph, cases):
    def tiny(network):
        network.stages[1][1].transformer[0].mlp.fc2.weight[0, 0] += 1e-5

    found = verdict(tmp_path, model, graph, cases[:2], run(changed(model, tiny), cases[:2]), precision="fp16")
    assert (found.status, found.cause) == ("agrees", None)  # as near as another version of a kernel

    def small(network):
        network.stages[1][1].transformer[0].mlp.fc2.weight[0, 0] += 1e-3

    found = verdict(tmp_path / "2", model, graph, cases[:2], run(changed(model, small), cases[:2]), precision="fp16")
    assert (found.status, found.cause) == ("differs", None)
    assert found.culprit.layer == "stages.1.1.transformer.0.mlp.fc2"


@pytest.mark.parametrize("strength", [0.01, 0.2])
def test_an_operator_that_a_fresh_conversion_gets_wrong_too_is_the_conversions_fault(
    tmp_path, model, graph, cases, strength
):
    def spoil(step, value):
        wrong = step.path == "stages.1.1.transformer.0.attention" and step.operator == "softmax"
        return value + strength * value.roll(1, -1) if wrong else value

    tapped = run(graph, cases[:2], spoil)
    found = verdict(tmp_path, model, graph, cases[:2], tapped, tapped)
    assert (found.status, found.cause) == ("diverged", "conversion")
    assert (found.culprit.operator, found.culprit.layer) == ("softmax", "stages.1.1.transformer.0.attention")


def test_a_fresh_conversion_that_computes_another_network_is_refused_with_the_place(graph, cases):
    def spoil(step, value):
        return value.flip(1) if step.path == "final_conv.conv" else value

    with pytest.raises(ToolchainError, match=r"something else from conv2d in final_conv\.conv on"):
        places_of(graph, cases[0], run(graph, cases[:1], spoil), "fp32")


def test_operators_that_only_one_file_has_do_not_shift_the_others(tmp_path, model, graph, cases):
    taps, values = run(changed(model, no_bias), cases[:2])
    at = [i for i, tap in enumerate(taps) if tap.name == "stages.0.0.depthwise.activation"]
    extra = Tap("COPY", "", taps[at[0]].shape)
    taps = (*taps[: at[0]], extra, *taps[at[0] :])
    values = [[*row[: at[0]], row[at[0]] * 7, *row[at[0] :]] for row in values]
    found = verdict(tmp_path, model, graph, cases[:2], (taps, values))
    assert found.culprit.layer == "stages.1.1.transformer.1.mlp.fc2"


def test_taps_are_aligned_by_operator_and_shape():
    fresh = [Tap("CONV", "a", (1, 8)), Tap("ADD", "b", (1, 8)), Tap("CONV", "c", (1, 4))]
    other = [Tap("CONV", "x", (1, 8)), Tap("MUL", "y", (1, 8)), Tap("CONV", "z", (1, 4))]
    assert align(fresh, other) == {0: 0, 2: 2}


def test_every_result_of_the_graph_is_found_again_by_its_values(graph, cases):
    taps, values = run(graph, cases[:1])
    places = find_places(graph, cases[0].image, values[0], 60.0)
    found = {place.tap: node for node, each in places.items() for place in each}
    steps = [step for step in graph.steps if step.operator not in FOLDED]
    assert {number: steps[number].node for number in range(len(taps))} == found


def test_costs_are_what_the_scores_lose_to_an_error(graph, cases):
    """Against the definition: the graph run on with the error added."""
    names = ("stages.0.1.expand.conv", "stages.1.1.transformer.0.attention.v", "final_conv.conv")
    generator = torch.Generator().manual_seed(0)
    nodes = {step.path: step for step in graph.steps if step.path in names}
    (_, clean) = run(graph, cases[:1])
    for name, step in nodes.items():
        error = []

        def spoil(each, value, step=step, error=error):
            if each is step:
                error.append(1e-4 * torch.randn(value.shape, generator=generator, dtype=value.dtype) * value.std())
                return value + error[0]
            return value

        (_, spoilt) = run(graph, cases[:1], spoil)
        measured = sqnr_db(*(each[0][-1] - each[0][-1].mean() for each in (clean, spoilt)))
        assert costs_db(graph, cases[0], {step.node: error[0].float()})[step.node] == pytest.approx(measured, abs=4), (
            name
        )


def test_answers_that_are_not_the_checkpoints_are_refused(tmp_path, model, graph, cases):
    reference = reference_of(model, tiny_spec().preprocessing, cases[:2])
    artifact = write_artifact(tmp_path / "artifact", tiny_spec(), reference)
    check_reference(artifact, graph, reference)
    with pytest.raises(ArtifactError, match="are not those of its checkpoint"):
        check_reference(artifact, graph, dataclasses.replace(reference, answers=reference.answers + 0.1))


@given(st.data())
def test_a_value_is_recognized_in_any_order_of_its_axes(data):
    shape = tuple(data.draw(st.lists(st.sampled_from((1, 2, 3, 5)), min_size=1, max_size=4)))
    axes = data.draw(st.permutations(range(len(shape))))
    result = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=shape)
    held = result.transpose(axes)
    for tap in (held, held.reshape(-1), held.reshape(1, *held.shape)):
        layout, found = best_permutation(result, tap, 60.0)
        assert found == 200
        assert np.array_equal(layout.to_result(tap).reshape(shape), result)


def test_another_value_of_the_same_size_is_not_recognized():
    values = np.random.default_rng(0).normal(size=(2, 4, 8, 8))
    assert best_permutation(values[:1], values[1:], 6.0) is None
    assert best_permutation(values[:1], values[:1, :3], 6.0) is None


def test_blocks_are_what_a_user_calls_them(model):
    modules = dict(model.named_modules())
    assert block_of("stem.conv", modules) == "stem"
    assert block_of("stages.0.1.expand.conv", modules) == "stages.0.1"
    assert block_of("stages.1.1.local_conv.conv", modules) == "stages.1.1"
    assert block_of("stages.1.1.transformer.0.attention.qkv", modules) == "stages.1.1.transformer.0"
    assert block_of("", modules) == ""
    heads = {"net": nn.Module(), "net.heads": nn.ModuleList([nn.Linear(1, 1)]), "net.heads.0": nn.Linear(1, 1)}
    assert block_of("net.heads.0", heads) == "net"  # side by side, not one after the other


def test_independent_errors_add_up():
    assert sum_db([50.0, 50.0]) == pytest.approx(46.99, abs=0.01)
    assert sum_db([200.0, 60.0]) == pytest.approx(60.0)


def test_the_report_is_a_picture_and_the_verdict_as_json(tmp_path, model, graph, cases):
    found = verdict(tmp_path, model, graph, cases[:2], run(changed(model, swapped), cases[:2]))
    write_bisection(found, tmp_path / "report")
    assert msgspec.json.decode((tmp_path / "report" / "bisect.json").read_bytes(), type=Bisection) == found
    content = (tmp_path / "report" / "bisect.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 20_000


def test_readings_follow_the_order_of_execution(tmp_path, model, graph, cases):
    found = verdict(tmp_path, model, graph, cases[:1], run(graph, cases[:1]))
    order = {step.path: i for i, step in reversed(list(enumerate(graph.steps)))}
    positions = [order[each.layer] for each in found.operators if each.operator in ("conv2d", "linear")]
    assert all(a < b for a, b in itertools.pairwise(positions))


def test_weights_that_are_folded_elsewhere_are_told_with_the_layer_that_holds_them():
    spec = model_spec("mobilevitv2_050", num_classes=10)
    holders = weight_holders(build_model(spec))
    assert holders["stages.0.0.expand.norm"] == "stages.0.0.expand.conv"
    assert holders["stages.2.1.transformer.blocks.0.norm1"] == "stages.2.1.transformer.blocks.0.attention.qkv"
    assert holders["stages.2.1.project.conv"] == holders["stages.2.1.project.norm"] == "stages.3.0.expand.conv"
    assert holders["stages.2.1.transformer.norm"] == "stages.3.0.expand.conv"
    also = folded_into("stages.3.0.expand.conv", holders)
    assert set(also) == {"stages.2.1.project.conv", "stages.2.1.project.norm", "stages.2.1.transformer.norm"}
