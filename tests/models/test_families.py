"""What holds for every registered model, and one of each family on its whole way to the phone."""

from __future__ import annotations

import pytest
import torch

from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.checkpoints.source import open_source
from mobilevit_sdk.conversion.pipeline import convert
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, deploy
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, list_models, model_entries, model_spec, spec_at_size
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.parity import passed

NAMES = list_models()
SMALLEST = {entry.family: entry.name for entry in reversed(model_entries())}


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_the_phone_graph_of_every_model_is_exact_in_float64(name):
    spec = spec_at_size(model_spec(name), 64, 64)
    model = random_checkpoint(spec, 0).model.double()
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = model(to_model_input(image, spec.preprocessing))
    for target in sorted(TARGETS):
        scores = deploy(model, target, preprocessing=spec.preprocessing)(image)
        assert (scores - expected).abs().max() <= 1e-9 * expected.abs().max(), target


@pytest.mark.parametrize("name", sorted(SMALLEST.values()))
def test_random_weights_hide_nothing(name):
    """Images differ in their answers, and every tensor of the network has its share in them."""
    spec = spec_at_size(model_spec(name), 128, 128)
    model = random_checkpoint(spec, 0).model.double()
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = model(images)
    assert (scores[0] - scores[1]).norm() > 0.02 * scores[0].norm()
    (scores * torch.randn(scores.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    idle = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 1e-6]
    assert idle == []


@pytest.mark.parametrize("name", sorted(SMALLEST.values()))
def test_attention_of_the_reference_form_is_of_rank_4_as_onnx_wants_it(name):
    spec = spec_at_size(model_spec(name), 64, 64)
    with torch.device("meta"):
        program = torch.export.export(build_model(spec).eval(), (torch.zeros(1, 3, 64, 64),))
    nodes = [node for node in program.graph.nodes if "scaled_dot_product" in str(node.target)]
    assert {part.meta["val"].dim() for node in nodes for part in node.args[:3]} <= {4}
    assert bool(nodes) == (spec.family != "mobilevitv2")  # whose attention is none of two products


@pytest.mark.parametrize("name", NAMES)
def test_an_image_smaller_than_the_total_stride_is_refused(name):
    with pytest.raises(RequestError, match=rf"{name}: images of 31x400 are smaller than .* stride of (32|64)"):
        spec_at_size(model_spec(name), 31, 400)


@pytest.mark.parametrize("name", sorted(SMALLEST.values()))
@torch.inference_mode()
def test_a_network_brought_to_another_size_takes_images_of_it(name):
    spec = spec_at_size(model_spec(name, num_classes=5), 64, 64)
    model = randomize(build_model(spec), 0).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    resized, resized_spec = resize_network(model, spec, 96, 128)
    assert resized_spec.preprocessing.image_size == (96, 128)
    scores = resized(torch.rand(2, 3, 96, 128))
    assert scores.shape == (2, 5)
    assert scores.isfinite().all()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALLEST.values()))
def test_the_smallest_model_of_each_family_converts_to_every_format_and_is_verified(name, tmp_path):
    # Not fp16: how much of it random weights lose is a matter of luck. Trained ones: test_default_checkpoint.
    result = convert(open_source(name, random_weights_seed=0, image_size=64), out=tmp_path, precisions=["fp32"])
    assert result.failures == []
    assert [artifact.manifest.format for artifact in result.artifacts] == ["coreml", "executorch", "tflite"]
    assert passed(result.verdicts), result.verdicts
    for artifact in result.artifacts:
        assert artifact.manifest.max_rank <= 4
        assert artifact.manifest.delegates in (1, None)
        assert not artifact.manifest.undelegated_ops
