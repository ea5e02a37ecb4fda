"""DETR: counts, layouts, phone graphs and the gate of its boxes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_shapes import shape_pictures
from golden.make_detr import detr_weights
from golden.weights import images
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.conversion.pipeline import convert
from mobilevit_sdk.deployment import TARGETS, audit, deploy
from mobilevit_sdk.deployment.padded_max_pool import pad_max_pools
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.measure import evaluate
from mobilevit_sdk.evaluation.predict import predict
from mobilevit_sdk.layers import FrozenBatchNorm2d, ResNet, sine_positions
from mobilevit_sdk.models.meta_model import build_on_meta, count_macs
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, model_spec, spec_at_size
from mobilevit_sdk.parity.boxes import overlaps, pixel_differences
from mobilevit_sdk.parity.metrics import compare
from mobilevit_sdk.spec import ModelSpec

SMALL = {
    "dim": 32,
    "num_heads": 4,
    "mlp_dim": 64,
    "num_queries": 9,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "backbone_width": 8,
    "backbone_depths": (1, 1, 1, 2),
    "num_classes": 7,
}


def small_spec(**options: object) -> ModelSpec:
    return spec_at_size(model_spec("detr_resnet50", **{**SMALL, **options}), 96, 128)


@pytest.fixture(scope="module")
def small() -> Checkpoint:
    return random_checkpoint(small_spec(), 0)


@pytest.mark.parametrize(
    ("name", "all_of_them", "norms", "macs"),
    [("detr_resnet50", 41_577_888, 53_120, 38_560_153_600), ("detr_resnet101", 60_570_016, 105_344, None)],
)
def test_counts_are_the_published_ones(name: str, all_of_them: int, norms: int, macs: int | None) -> None:
    spec = model_spec(name)
    parameters = list(build_on_meta(spec).parameters())
    assert sum(each.numel() for each in parameters) == all_of_them
    assert sum(each.numel() for each in parameters if not each.requires_grad) == norms
    assert macs in (None, count_macs(spec))


def test_frozen_norms_keep_their_statistics_in_training() -> None:
    model = build_model(small_spec()).train()
    norms = [layer for layer in model.modules() if isinstance(layer, FrozenBatchNorm2d)]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)
    assert all(norm.training for norm in build_model(small_spec(frozen_norm=False)).train().backbone.stem.children())


def test_queries_of_random_weights_differ(small: Checkpoint) -> None:
    images = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, boxes = small.model(images)
    assert (logits.shape, boxes.shape) == ((2, 9, 8), (2, 9, 4))
    assert logits.std(1).mean() > 0.03 * logits.std()  # DETR's own initialization: 2e-4
    assert boxes.std(1).mean() > 0.005  # 3e-6


def test_the_answer_of_the_last_decoder_layer_is_the_answer(small: Checkpoint) -> None:
    image = torch.rand(1, 3, 96, 128)
    layers = small.model.by_layer(image)  # type: ignore[operator]
    assert len(layers) == SMALL["decoder_layers"]
    for one, other in zip(layers[-1], small.model(image), strict=True):
        assert torch.equal(one, other)
    assert not torch.allclose(layers[0][0], layers[1][0])


def test_positions_are_sines_of_rows_then_of_columns() -> None:
    positions = sine_positions(3, 5, 16).view(3, 5, 16)
    assert torch.equal(positions[:, 0, :8], positions[:, 4, :8])
    assert torch.equal(positions[0, :, 8:], positions[2, :, 8:])
    assert positions[1, 0, 0].item() == pytest.approx(np.sin(2 * 2 * np.pi / 3), abs=1e-5)
    assert positions[0, 2, 9].item() == pytest.approx(np.cos(3 * 2 * np.pi / 5), abs=1e-5)


@torch.no_grad()
def test_padding_with_zeros_changes_no_maximum_after_a_relu() -> None:
    plain = randomize(ResNet(3, (8, 32, 64), [[(8, 8)], [(16, 16)]]), 0).double().eval()
    padded = copy.deepcopy(plain)
    pad_max_pools(padded)
    image = torch.randn(1, 3, 37, 50, dtype=torch.float64)
    assert not isinstance(padded.pool, nn.MaxPool2d)
    assert torch.equal(plain(image), padded(image))


@pytest.mark.parametrize("target", TARGETS)
@torch.no_grad()
def test_phone_graphs_compute_the_same_and_are_taken_whole(small: Checkpoint, target: str) -> None:
    model, spec = copy.deepcopy(small.model).double(), small.spec
    image = torch.rand(1, 3, 96, 128, dtype=torch.float64)
    given = spec.preprocessing.mean, spec.preprocessing.std
    mean, std = (torch.tensor(each, dtype=torch.float64).view(3, 1, 1) for each in given)
    for one, other in zip(deploy(model, target, spec)(image), model((image - mean) / std), strict=True):
        assert (one - other).abs().max() < 1e-9 * other.abs().max()
    assert audit(deploy(small.model, target, spec), target, (96, 128)) == []


def test_what_detectors_lack_refuses(small: Checkpoint) -> None:
    with pytest.raises(RequestError, match="no features"):
        small.spec.with_features("map", scores=False)
    with pytest.raises(RequestError, match="answers with boxes"):
        small.spec.require_scores("a training")


def test_files_answer_with_scores_and_boxes_of_each_query(small: Checkpoint, tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    result = convert(small, out=tmp_path, formats="executorch", precisions="fp32")
    assert result.failures == []
    (verdict,) = (each for each in result.verdicts if each.runtime == "executorch")
    assert verdict.status == "passed", verdict.reason
    assert (verdict.delegates, verdict.undelegated_ops) == (1, {})
    assert verdict.outputs
    assert verdict.outputs["boxes"].max_pixels < 0.05
    assert "pixels" in str(verdict.by_output())
    dataset = replace(shape_pictures(2, seed=3), class_names=None)
    picture = tmp_path / "picture.png"
    picture.write_bytes(dataset.read(0))
    (own,), (files,) = (predict(picture, target, threshold=0).predictions for target in (small, result.artifacts[0]))
    assert own.objects
    assert files.objects
    assert [each.index for each in own.objects] == [each.index for each in files.objects]
    np.testing.assert_allclose([each.box for each in files.objects], [each.box for each in own.objects], atol=0.1)
    assert evaluate(result.artifacts[0], data=dataset).accuracy.images == 2


def test_a_delegate_takes_constants_of_products_beside_float16(small: Checkpoint, tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    result = convert(small, out=tmp_path, formats="executorch", precisions="fp16")
    assert result.failures == []
    (verdict,) = (each for each in result.verdicts if each.runtime == "executorch")
    assert (verdict.delegates, verdict.undelegated_ops) == (1, {})
    assert verdict.outputs
    assert verdict.outputs["boxes"].max_pixels < 2


def test_queries_that_find_nothing_have_no_best_class_to_keep() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32) * 4
    scores[..., 3] = -20
    scores[:, 2:, 3] = 20  # no object
    other = scores.copy()
    other[:, 2:, :2] = other[:, 2:, 1::-1]  # another class of what is no object
    found = compare(scores, other, kind="query-scores")
    assert (found.objects, found.top1_agreement) == (6, 1.0)
    other[0, 0] = -other[0, 0]
    assert compare(scores, other, kind="query-scores").top1_agreement == pytest.approx(5 / 6)


def test_boxes_are_compared_in_pixels_and_by_their_overlap() -> None:
    box = np.array([[0.5, 0.5, 0.2, 0.4]])
    moved = box + np.array([[0.1, 0, 0, 0]])
    assert pixel_differences(box, moved, (100, 200)) == pytest.approx(20)
    assert overlaps(box, moved) == pytest.approx(1 / 3)
    assert overlaps(box, box + np.array([[0.5, 0, 0, 0]])) == 0
    assert overlaps(box, box * np.nan) == 0


def tell_tokens_apart(projection: nn.Conv2d, run: Callable[[], object]) -> None:
    """Take away what all places of the map have in common, so that queries that look elsewhere see something else."""
    seen: list[Tensor] = []
    hook = projection.register_forward_hook(lambda _, __, output: seen.append(output))
    run()
    hook.remove()
    assert projection.bias is not None
    mean = seen[0].mean((0, 2, 3))
    scale = (seen[0] - mean[:, None, None]).std()
    projection.weight /= scale
    projection.bias.sub_(mean).div_(scale)


@pytest.mark.slow
@pytest.mark.parametrize("dilated", [False, True], ids=["plain", "DC5"])
@pytest.mark.parametrize("in_file", [False, True], ids=["in memory", "in a file"])
@pytest.mark.parametrize("timm", [True, False], ids=["timm", "no_timm"])
@torch.no_grad()
def test_networks_of_transformers_answer_the_same(tmp_path: Path, timm: bool, in_file: bool, dilated: bool) -> None:
    transformers = pytest.importorskip("transformers")
    if dilated and not timm:
        pytest.skip("transformers dilates timm's ResNet alone")
    if timm:
        pytest.importorskip("timm", reason="timm is not installed: pip install --no-deps timm torchvision")
    options = {"use_timm_backbone": True, "backbone": "resnet50", "use_pretrained_backbone": False, "dilation": dilated}
    if not timm:
        resnet = transformers.ResNetConfig(out_features=["stage4"])
        options = {"use_timm_backbone": False, "backbone": None, "backbone_config": resnet}
    theirs = transformers.DetrForObjectDetection(transformers.DetrConfig(num_labels=91, **options)).eval()
    made = detr_weights({name: tuple(each.shape) for name, each in theirs.state_dict().items()})
    for name, each in made.items():  # or each of 16 blocks would double what flows through it
        if name.endswith(("bn3.weight", "layer.2.normalization.weight")):
            each *= 0.3
    theirs.load_state_dict(made)
    image = images((128, 160), 1).double() * 4 - 2
    tell_tokens_apart(theirs.model.input_projection, lambda: theirs(pixel_values=image.float()))
    path = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), path)
    if in_file:
        theirs.save_pretrained(tmp_path / "saved")
        path = (tmp_path / "saved" / "model.safetensors").rename(tmp_path / "renamed.safetensors")
    ours = load_checkpoint(path, model="detr_resnet50_dc5" if dilated else None)
    assert ours.spec.num_classes == 91
    assert dilated or any("_dc5" in note for note in ours.notes)
    wanted = theirs.double()(pixel_values=image)
    for one, other in zip(ours.model.double()(image), (wanted.logits, wanted.pred_boxes), strict=True):
        assert other.std(1).mean() > 0.01 * other.std()  # a thousand times what may differ
        assert (one - other).abs().max() < 1e-5 * other.abs().max()
