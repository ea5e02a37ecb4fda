"""What every model family promises, as tests: subclass `FamilyContract` in a test file and say which network is meant.

    class TestMyFamily(FamilyContract):
        family = "my_family"
        parameters = (("my_model_s", {}, 1_234_567), ("my_model_s", {"num_classes": 10}, 1_106_577))
        network = staticmethod(my_tiny_model)

`network(image_size, **config_options)` returns a tiny network in eval mode, with weights that hide nothing, and its
spec.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest
import torch
from helpers import sampled
from phone_files import SharedFiles, runtime_of
from tiny_networks import noise
from torch import nn

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, audit, deploy
from mobilevit_sdk.deployment.polynomial_gelu import gelus_as_polynomials
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.converter import converters, find_converter
from mobilevit_sdk.models.backbone import as_rows
from mobilevit_sdk.models.registry import build_model, list_models, model_entry, model_spec, spec_at_size
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import task_of

EXACT = {"rtol": 1e-11, "atol": 1e-11}
FLOAT_FILES = (
    pytest.param("coreai", "fp32", marks=pytest.mark.slow),
    pytest.param("coreai", "fp16", marks=pytest.mark.slow),
    pytest.param("coreml", "fp32", marks=pytest.mark.slow),
    ("coreml", "fp16"),
    ("executorch", "fp32"),
    ("tflite", "fp32"),
)


class FamilyContract:
    """The tests; see the module."""

    family: ClassVar[str]
    parameters: ClassVar[tuple[tuple[str, dict[str, Any], int], ...]]  # model, options, the published number
    network: ClassVar[Callable[..., tuple[nn.Module, ModelSpec]]]
    image_sizes: ClassVar[tuple[tuple[int, int], ...]]  # that the network at its first size takes as it is
    phone_sizes: ClassVar[tuple[tuple[int, int], ...]]  # of these, one without and one with resizing or padding inside
    resized: ClassVar[tuple[int, int]]  # pixels at which it is a network with other windows, where it has any
    stochastic: ClassVar[tuple[str, ...]]  # options of the config that act in training alone
    attention_of_two_products: ClassVar[bool] = True
    exact_sizes: ClassVar[tuple[int, int]] = (64, 80)  # the second for odd maps
    exact: ClassVar[float] = 1e-9  # of the largest score, in float64, at full depth
    overfit: ClassVar[tuple[float, int]] = (5e-3, 100)  # a learning rate, and steps in which a batch is learned
    exact_models: ClassVar[tuple[str, ...]] = ()  # of a family whose others differ from one of these in widths alone

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        values = {
            "counted": self.parameters,
            "image_size": self.image_sizes,
            "option": self.stochastic,
            "name": list_models(family=self.family),
            "exact_model": self.exact_models or list_models(family=self.family),
        }
        for argument, found in values.items():
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, found, ids=[_id(value) for value in found])
        if "any_format" in metafunc.fixturenames:  # the families take turns
            names = sorted(converters())
            metafunc.parametrize("any_format", sampled(names, names[self.number() % len(names)]))
        if "target" in metafunc.fixturenames:
            targets, number = sorted(TARGETS), self.number()
            kept = {targets[(number + step) % len(targets)] for step in (0, len(targets) // 2)}
            metafunc.parametrize("target", sampled(targets, *kept))
        if "sized_target" in metafunc.fixturenames:
            pairs = list(itertools.product(sorted(TARGETS), self.phone_sizes))
            in_turn = zip(sorted(TARGETS), itertools.cycle(self.phone_sizes), strict=False)
            metafunc.parametrize("sized_target", sampled(pairs, *in_turn), ids=[_id(pair) for pair in pairs])

    def number(self) -> int:
        """Which of the families it is, so that they can take turns."""
        return sorted(each.family for each in FamilyContract.__subclasses__()).index(self.family)

    def smallest(self, image_size: int, **options: Any) -> ModelSpec:
        """Of the family's registered models."""
        return spec_at_size(model_spec(list_models(family=self.family)[0], **options), image_size, image_size)

    # The reference form.

    def test_parameter_counts_are_the_published_ones(self, counted):
        name, options, number = counted
        with torch.device("meta"):
            assert sum(p.numel() for p in create_model(name, **options).parameters()) == number

    def test_scores_depend_on_the_image_at_any_size(self, image_size):
        model, spec = self.network()
        scores = model(noise(3, 3, *image_size))
        assert scores.shape == (3, spec.num_classes)
        assert (scores[0] - scores[1]).abs().max() > 1e-3

    def test_batches_give_what_single_images_give(self, image_size):
        model = self.network()[0].double()
        images = noise(3, 3, *image_size, dtype=torch.float64)
        single = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(model(images), single, rtol=0, atol=1e-13 * single.detach().abs().max().item())

    def test_gradients_reach_every_parameter(self):
        model = self.network()[0].train()
        as_rows(model(noise(4, 3, *self.image_sizes[-1]))).square().sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []

    def test_a_few_steps_overfit_one_batch(self):
        torch.manual_seed(0)
        _, spec = self.network()
        model = build_model(spec).train()
        learning_rate, steps = self.overfit
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
        images, labels = noise(8, 3, *spec.preprocessing.image_size), torch.arange(8) % spec.num_classes
        losses = []
        while len(losses) < steps and not (losses and losses[-1] < 0.05):
            loss = task_of(spec).loss(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] > 1
        assert losses[-1] < 0.05

    def test_stochastic_options_act_in_training_alone(self, option):
        model, spec = self.network(**{option: 0.4})
        images = noise(8, 3, *spec.preprocessing.image_size)
        assert torch.equal(model(images), model(images))
        model.train()
        assert not torch.equal(as_rows(model(images)), as_rows(model(images)))

    def test_attention_of_the_reference_form_is_of_rank_4_as_onnx_wants_it(self):
        _, spec = self.network()
        size = spec.preprocessing.image_size
        with torch.device("meta"):
            program = torch.export.export(build_model(spec).eval(), (torch.zeros(1, 3, *size),))
        nodes = [node for node in program.graph.nodes if "scaled_dot_product" in str(node.target)]
        assert {part.meta["val"].dim() for node in nodes for part in node.args[:3]} <= {4}
        assert bool(nodes) == self.attention_of_two_products

    def test_random_weights_hide_nothing(self):
        """Images differ in their answers, and every tensor of the network has its share in them."""
        model = random_checkpoint(self.smallest(128), 0).model.double()
        scores = model(noise(2, 3, 128, 128, seed=1, dtype=torch.float64))
        assert (scores[0] - scores[1]).norm() > 0.02 * scores[0].norm()
        (scores * torch.randn(scores.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        assert [name for name, p in model.named_parameters() if not p.grad.abs().max() > 1e-6] == []

    # Its sizes.

    def test_an_image_smaller_than_the_total_stride_is_refused(self, name):
        stride = model_entry(name).config.stride
        match = rf"{name}: images of {stride - 1}x448 are smaller than .* stride of {stride}"
        with pytest.raises(RequestError, match=match):
            spec_at_size(model_spec(name), stride - 1, 448)

    def test_a_resized_network_takes_images_of_its_size_and_leaves_the_first_as_it_was(self):
        model, spec = self.network()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        height, width = (2 * size for size in spec.preprocessing.image_size)
        resized, resized_spec = resize_network(model, spec, height, width + 32)
        assert resized_spec.preprocessing.image_size == (height, width + 32)
        scores = resized(noise(2, 3, height, width + 32))
        assert scores.shape == (2, spec.num_classes)
        assert scores.isfinite().all()
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_a_network_resized_to_its_own_size_is_the_same(self):
        model, spec = self.network()
        assert resize_network(model, spec, *spec.preprocessing.image_size) == (model, spec)

    # Its phone graphs.

    def test_the_phone_graph_equals_the_reference_in_float64_and_is_taken_whole(self, sized_target):
        """By default of each target at one size, in turn."""
        check_graph(*self.network(), *sized_target)

    def test_the_phone_graph_of_a_resized_network_does_too(self, target):
        check_graph(*resize_network(*self.network(), *self.resized), target, self.resized)

    def test_no_tensor_of_the_exported_graph_exceeds_rank_4(self):
        """For the target whose audit takes any rank; those of the others name it."""
        size = self.phone_sizes[1]
        model, spec = self.network()
        spec = msgspec.structs.replace(spec, preprocessing=spec.preprocessing.at_size(*size))
        graph = deploy(model, "litert-cpu", spec)
        program = torch.export.export(graph, (noise(1, 3, *size),))
        values = [node.meta["val"] for node in program.graph.nodes if hasattr(node.meta.get("val"), "dim")]
        assert max(value.dim() for value in values) == 4

    @torch.inference_mode()
    def test_the_phone_graph_of_the_smallest_model_is_exact_in_float64(self):
        self.check_exact(self.smallest(64))

    @pytest.mark.exhaustive
    @torch.inference_mode()
    def test_the_phone_graph_of_every_model_is_exact_in_float64(self, exact_model):
        for size in self.exact_sizes:
            self.check_exact(spec_at_size(model_spec(exact_model), size, size))

    def check_exact(self, spec: ModelSpec) -> None:
        model = random_checkpoint(spec, 0).model.double()
        image = noise(1, 3, *spec.preprocessing.image_size, seed=1, dtype=torch.float64)
        given = to_model_input(image, spec.preprocessing)
        for target in sorted(TARGETS):
            expected = as_target_computes_gelu(model, target)(given)
            scores = deploy(model, target, spec)(image)
            assert (scores - expected).abs().max() <= self.exact * expected.abs().max(), target

    # Its phone files.

    @pytest.mark.parametrize(("format_name", "precision"), FLOAT_FILES)
    def test_a_phone_file_answers_as_pytorch_and_runs_whole(self, format_name, precision, phone_files: SharedFiles):
        file = phone_files.file(format_name, precision, self.family)
        converter = find_converter(format_name)
        runtime_of(converter)
        agreement = file.agreement(converter)
        assert agreement.sqnr_db.worst >= (90 if precision == "fp32" else 40)
        assert agreement.top1_agreement == 1
        found = converter.inspect(file.path)
        assert found.max_rank == 4
        assert found.delegates in (1, None)  # None: the device decides
        assert not found.undelegated_ops

    @pytest.mark.slow
    def test_the_smallest_model_converts_and_is_verified(self, any_format, tmp_path):
        """In float32: how much of float16 random weights lose is luck. Trained ones: test_default_checkpoint."""
        from mobilevit_sdk import convert
        from mobilevit_sdk.parity import passed

        checkpoint = random_checkpoint(self.smallest(64), 0)
        result = convert(checkpoint, out=tmp_path, formats=[any_format], precisions=["fp32"])
        assert result.failures == []
        assert passed(result.verdicts), result.verdicts
        (artifact,) = result.artifacts
        assert artifact.manifest.max_rank <= 4
        assert artifact.manifest.delegates in (1, None)
        assert not artifact.manifest.undelegated_ops


def as_target_computes_gelu(model: nn.Module, target: str) -> nn.Module:
    """The reference form with GELU as the target's polynomial, where it has one: all other rewrites are identities.

    How far the polynomial is from GELU is tested in `deployment/test_vulkan_forms.py`.
    """
    if TARGETS[target].exact_gelu:
        return model
    model = copy.deepcopy(model)
    gelus_as_polynomials(model)
    return model


def check_graph(model: nn.Module, spec: ModelSpec, target: str, size: tuple[int, int]) -> None:
    spec = msgspec.structs.replace(spec, preprocessing=spec.preprocessing.at_size(*size))  # the network stays as it is
    model, image = model.double(), noise(1, 3, *size, dtype=torch.float64)
    expected = as_target_computes_gelu(model, target)(to_model_input(image, spec.preprocessing))
    graph = deploy(model, target, spec)
    torch.testing.assert_close(graph(image), expected, **EXACT)
    assert audit(graph.float(), target, size) == []


def _id(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(_id(each) for each in value if each != {})
    return ",".join(f"{key}={each}" for key, each in value.items()) if isinstance(value, dict) else str(value)
