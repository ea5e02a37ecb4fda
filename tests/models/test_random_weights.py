"""Random weights must hide no fault and, where nothing is at fault, must not fail."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.layers import StochasticDepth
from mobilevit_sdk.models.registry import model_spec, spec_at_size
from mobilevit_sdk.parity.metrics import Agreement, compare
from mobilevit_sdk.spec import ModelSpec

SPECS = {
    name: spec_at_size(model_spec(name), 64, 64)
    for name in ("mobilevit_xxs", "mobilevitv2_050", "tiny_vit_5m_224", "efficientvit_m0")
}


@pytest.fixture(scope="module", params=SPECS)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return SPECS[request.param]


@pytest.fixture(scope="module")
def network(spec: ModelSpec) -> nn.Module:
    return random_checkpoint(spec, 0).model


@torch.no_grad()
def answers(network: nn.Module, spec: ModelSpec, dtype: torch.dtype = torch.float32, limit: int = 27) -> Tensor:
    images = torch.stack([torch.from_numpy(case.image) for case in builtin_cases(spec.preprocessing)[:limit]])
    return network.to(dtype)(to_model_input(images, spec.preprocessing).to(dtype))


def agreement(expected: Tensor, actual: Tensor) -> Agreement:
    return compare(expected.float().numpy(), actual.float().numpy())


def test_float32_is_close_to_float64(network: nn.Module, spec: ModelSpec) -> None:
    exact = answers(copy.deepcopy(network), spec, torch.float64)
    found = agreement(exact, answers(network, spec))
    assert found.sqnr_db.worst > 100
    assert found.top1_agreement == 1


def test_matrices_and_activations_in_half_precision_keep_every_best_class(network: nn.Module, spec: ModelSpec) -> None:
    half = copy.deepcopy(network)
    for parameter in half.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.half().float()
    for layer in half.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda _, __, output: output.half().float())
    found = agreement(answers(network, spec), answers(half, spec))
    assert 40 < found.sqnr_db.worst < 70  # above: the hooks did nothing
    assert found.top1_agreement == 1


def test_images_are_told_apart(network: nn.Module, spec: ModelSpec) -> None:
    logits = answers(network, spec)
    assert len(set(logits.argmax(1).tolist())) >= 20  # of 27, of which two are the same
    best, second = logits.topk(2).values.T
    assert ((best - second) / logits.std(1)).min() > 0.05


def test_every_residual_branch_tells_in_the_answer(network: nn.Module, spec: ModelSpec) -> None:
    expected = answers(network, spec, limit=3)
    for branch in network.modules():
        if isinstance(branch, StochasticDepth):
            calls: list[int] = []
            hook = branch.register_forward_hook(lambda _, __, output, calls=calls: calls.append(1) or 0 * output)
            found = agreement(expected, answers(network, spec, limit=3))
            assert not calls or found.sqnr_db.worst < 35  # without residual a block does not call it
            hook.remove()


def test_no_tensor_is_neutral(network: nn.Module) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.numel() > 1:
            assert (tensor != 0).any(), name
            assert (tensor != 1).any(), name


def test_the_same_seed_gives_the_same_weights_and_another_others(spec: ModelSpec, network: nn.Module) -> None:
    again, other = random_checkpoint(spec, 0).model, random_checkpoint(spec, 1).model
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert not torch.equal(next(network.parameters()), next(other.parameters()))
