"""The static audit names what a target would not take, where it stands, and why."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import tiny_model
from torch import nn

from mobilevit_sdk.deployment import TARGETS, audit, deploy
from mobilevit_sdk.deployment.products import batched_product
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, model_entries, model_spec

SIZE = (8, 8)
ROWS = {target.name for target in TARGETS.values() if target.tokens == "rows"}
ANE = set(TARGETS) - ROWS
RANK_4 = {target.name for target in TARGETS.values() if target.product_rank == 4}


class Inner(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Outer(nn.Module):
    """`function` in the module `body.1`, after a convolution that every target takes."""

    def __init__(self, function):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), Inner(function))

    def forward(self, image):
        return self.body(image)


@pytest.mark.parametrize(
    ("function", "operator", "reason", "targets"),
    [
        (lambda x: F.scaled_dot_product_attention(x, x, x), "scaled_dot_product_attention", "not take", set(TARGETS)),
        (lambda x: F.group_norm(x, 1), "group_norm", "not take", set(TARGETS)),
        (lambda x: x[:, 0], "select.int", "not take", set(TARGETS)),
        (lambda x: x.expand(2, 4, 8, 8), "expand", "not take", set(TARGETS)),
        (lambda x: x[:, torch.tensor([1, 0])], "index.Tensor", "not take", set(TARGETS)),
        (lambda x: F.layer_norm(x, (8,)), "layer_norm", "", {"xnnpack", "vulkan"} | ANE),
        (lambda x: F.gelu(x), "gelu", "computes as 'tanh'", {"vulkan"}),
        (lambda x: F.conv2d(x, torch.ones(2, 2, 1, 1), groups=2), "conv2d", "in 2 groups", {"vulkan"}),
        (lambda x: F.conv2d(x.view(2, 2, 8, 8), torch.ones(2, 2, 1, 1)), "conv2d", "a batch of 2", {"vulkan"}),
        (lambda x: F.linear(x, x[0, 0]), "linear", "not take", ANE),
        (lambda x: torch.matmul(x, x), "matmul", "not take", set(TARGETS)),
        (lambda x: x.split(2, 1)[1], "split.Tensor", "not take", ROWS - {"onnx"}),
        (lambda x: torch.einsum("abcd,adce->abce", x, x.transpose(1, 3)), "einsum", "", ROWS),
        (lambda x: x.mean(1, keepdim=True), "mean.dim", "expected a global pool", ROWS),
        (lambda x: x.sum(-1, keepdim=True), "sum.dim_IntList", "not take", ROWS),
        (lambda x: x * 2.0, "mul.Tensor", "a number instead of a tensor", {"xnnpack", "vulkan"}),
        (lambda x: x.mean((1, 2), keepdim=True), "mean.dim", "expected a global pool", set(TARGETS)),
        (lambda x: x.mean((2, 3)), "mean.dim", "keeps H and W", set(TARGETS)),
        (lambda x: x.softmax(1), "softmax.int", "expected the last", ROWS),
        (lambda x: x.softmax(2), "softmax.int", "expected the last", set(TARGETS)),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "pad.default", "expected 'constant'", set(TARGETS)),
        (lambda x: x.flatten(2).unsqueeze(0), "unsqueeze", "not take", {"xnnpack"}),
        (lambda x: x.reshape(1, 2, 2, 8, 8), "reshape", "rank 5", set(TARGETS) - {"litert-cpu"}),
    ],
)
def test_an_operator_outside_the_delegate_is_named_with_its_module(function, operator, reason, targets):
    for target in TARGETS:
        findings = audit(Outer(function), target, SIZE)
        if target in targets:
            assert any(
                f.operator.startswith(operator) and reason in f.reason and f.module == "body.1" for f in findings
            ), (target, findings)
            assert findings[0].operator in str(findings[0])
            assert "body.1" in str(findings[0])
        else:
            assert not [f for f in findings if f.operator.startswith(operator)], (target, findings)


def test_what_every_target_with_tokens_in_rows_takes_is_not_named():
    def everything(x, product, *heads):
        tokens = x.flatten(2).transpose(1, 2).reshape(1, *heads, 64, 4)
        scores = product(tokens, tokens.transpose(-1, -2)).softmax(-1)
        y = product(scores, tokens).transpose(-1, -2).reshape(1, 4, 8, 8)
        return F.gelu(y + F.silu(x), approximate="tanh").mean((2, 3), keepdim=True)

    for target in ROWS - RANK_4:
        assert audit(Outer(lambda x: everything(x, torch.bmm)), target, SIZE) == []
    for target in RANK_4:
        assert audit(Outer(lambda x: everything(x, batched_product, 1)), target, SIZE) == []


def test_a_batched_product_of_rank_3_is_named_for_litert():
    """With the form to write instead, and where it stands."""
    assert {"litert-cpu", "litert-gpu"} == RANK_4
    for target in TARGETS:
        found = [f for f in audit(Outer(lambda x: torch.bmm(x[0], x[0])), target, SIZE) if f.operator == "bmm.default"]
        assert bool(found) == (target in RANK_4 | ANE)
        if target in RANK_4:
            assert "of rank 3, which GPUs of phones compute wrongly; write torch.einsum('bhnd,bhdm->bhnm'" in str(found)
            assert found[0].module == "body.1"


class Product(nn.Module):
    """A constant from the left or from the right, through a layer, which leaves it a constant."""

    def __init__(self, *, left):
        super().__init__()
        self.left = left
        self.register_buffer("constant", torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0)))
        self.layer = nn.Linear(8, 8)

    def forward(self, image):
        tokens = image[:, :2]
        pair = (self.layer(self.constant), tokens) if self.left else (tokens, self.layer(self.constant))
        return torch.einsum("bhnd,bhdm->bhnm", *pair)


@pytest.mark.parametrize("target", ["litert-cpu", "litert-gpu"])
def test_a_constant_on_the_left_of_a_product_is_named_for_litert(target):
    (found,) = audit(Product(left=True), target, SIZE)
    assert "a constant times a tensor, which LiteRT's GPU refuses; put the constant on the right" in str(found)
    assert audit(Product(left=False), target, SIZE) == []


@pytest.mark.parametrize("equation", ["bhqd,bhkd->bhqk", "bqd,bdk->bqk", "bhqd,bhdk->bqhk", "bhqd,bidk->bhqk"])
def test_an_einsum_that_is_no_plain_product_of_rank_4_is_named_for_litert(equation):
    x = "abcd"[: len(equation.split(",")[0])]

    def product(image):
        return torch.einsum(equation, image if len(x) == 4 else image[0], image if len(x) == 4 else image[0])

    for target in RANK_4:
        found = [f.reason for f in audit(Outer(product), target, SIZE) if f.operator == "einsum.default"]
        assert found == [f"with the equation {equation}, expected one like bhnd,bhdm->bhnm"]


def test_what_the_neural_engine_likes_is_not_named():
    def everything(x):
        first, second = F.pixel_unshuffle(x, 2).split(8, 1)
        scores = torch.einsum("bkpc,bcpq->bkpq", first.permute(0, 3, 2, 1), second).softmax(1)
        y = F.pixel_shuffle(torch.cat((torch.einsum("bcpk,bkpq->bcpq", first, scores), second), 1), 2)
        y = y * torch.rsqrt((y * y).mean(1, keepdim=True) + 1e-5)
        return y + (y * x.softmax(-1)).sum(-1, keepdim=True) - y.mean((2, 3), keepdim=True)

    assert audit(Outer(everything), "coreml-ane", SIZE) == []


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (
            lambda x: torch.einsum("nhqc,nhkc->nhqk", x, x),
            "with the equation nhqc,nhkc->nhqk, expected one like nchw,n",
        ),
        (lambda x: x.sum(1, keepdim=True), "over axes [1] of rank 4, expected the last of 4, kept"),
        (lambda x: x.sum(3), "over axes [3] of rank 4, expected the last of 4, kept"),
        (lambda x: x[0].mean(1, keepdim=True), "over axes [1] of rank 3, expected a global pool"),
        (lambda x: x.flatten(2).softmax(1), "over axis 1 of rank 3, expected the last"),
    ],
)
def test_other_uses_of_these_operators_are_named(function, reason):
    assert any(reason in finding.reason for finding in audit(Outer(function), "coreml-ane", SIZE))


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_our_phone_graphs_pass_and_the_reference_form_does_not(target):
    model, spec = tiny_model()
    size = spec.preprocessing.image_size
    assert audit(deploy(model, target, spec), target, size) == []
    assert audit(model, target, size) != []


# The targets of default backends are audited at full size by `test_the_smallest_model_converts_and_is_verified`.
@pytest.mark.slow
@pytest.mark.parametrize("target", ["coreai-ane", "coreml-ane", "litert-gpu", "vulkan"])
@pytest.mark.parametrize("family", sorted({entry.family for entry in model_entries()}))
def test_the_smallest_model_of_each_family_is_taken_whole(family, target):
    spec = model_spec(model_entries(family)[0].name)
    graph = deploy(randomize(build_model(spec), 0).eval(), target, spec)
    assert audit(graph, target, spec.preprocessing.image_size) == []


def test_an_unknown_target_names_the_nearest():
    with pytest.raises(RequestError, match="did you mean litert-gpu"):
        audit(nn.Identity(), "litert-gpi", SIZE)
