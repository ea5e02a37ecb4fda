"""Networks that return features: from classifiers, backbones and networks for other tasks, to phone files and back."""

from __future__ import annotations

import copy
import dataclasses
import json

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from family_contract import as_target_computes_gelu
from helpers import sampled, tiny_spec
from made_once import in_this_process
from tiny_networks import phone_checkpoint
from tiny_networks import tiny_spec as tiny_network_spec

import mobilevit_sdk
from mobilevit_sdk import bisect, convert, deploy, inspect_artifact, load_checkpoint, save_checkpoint, verify
from mobilevit_sdk.artifacts.artifact import open_artifact
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.export import release_weights
from mobilevit_sdk.checkpoints.features import features_of
from mobilevit_sdk.checkpoints.key_maps import all_key_maps
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.formats.converter import converters
from mobilevit_sdk.parity.images import checkpoint_of

FAMILIES = ["efficientvit", "mobilevit", "mobilevitv2", "tiny_vit"]
KINDS = ["pooled", "map"]
# Each family once, each format and kind twice or thrice.
CONVERSIONS = [
    ("tflite", "mobilevit", "map", "fp32"),
    ("tflite", "tiny_vit", "pooled", "fp32"),
    ("coreml", "mobilevitv2", "map", "fp16"),
    ("coreml", "mobilevit", "pooled", "fp16"),
    ("executorch", "efficientvit", "map", "fp32"),
    ("executorch", "mobilevit", "pooled", "int8"),
]


@pytest.fixture(scope="module", params=FAMILIES)
def classifier(request):
    return phone_checkpoint(request.param)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_phone_graphs_return_what_the_network_does_before_its_classifier(classifier, target, kind):
    """In float64, and what the classifier makes of the pooled features is its answer."""
    found = features_of(classifier, kind)
    network, (height, width) = copy.deepcopy(found.model).double(), found.spec.preprocessing.image_size
    image = torch.rand(1, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given = to_model_input(image, found.spec.preprocessing)
    expected = as_target_computes_gelu(network, target)(given)
    assert expected.ndim == (2 if kind == "pooled" else 4)
    answer = deploy(network, target, found.spec)(image)
    torch.testing.assert_close(answer, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))
    whole = as_target_computes_gelu(copy.deepcopy(classifier.model).double(), target)
    pooled = expected if kind == "pooled" else whole.pool(expected)
    torch.testing.assert_close(whole.classify(pooled), whole(given))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_features_comes_back_as_it_was(classifier, kind, tmp_path):
    found = features_of(classifier, kind)
    save_checkpoint(found.model, found.spec, tmp_path / "features.safetensors")
    back = load_checkpoint(tmp_path / "features.safetensors")
    assert (back.spec, back.notes) == (found.spec, ())
    assert back.model.state_dict().keys() == found.model.state_dict().keys()
    save_checkpoint(classifier.model, classifier.spec, tmp_path / "whole.safetensors")
    again = load_checkpoint(tmp_path / "whole.safetensors", features=kind)
    assert again.spec == found.spec
    assert any("are left out: the network returns features" in note for note in again.notes)
    assert all(
        torch.equal(value, found.model.float().state_dict()[name]) for name, value in again.model.state_dict().items()
    )


def test_files_of_classifiers_are_as_before():
    assert b"features" not in msgspec.json.encode(tiny_spec())


def _converted(format_name, family, kind, precision, folder):
    converter = converters()[format_name]
    if not converter.availability():
        pytest.skip(str(converter.availability().reason))
    found = features_of(phone_checkpoint(family), kind)
    save_checkpoint(found.model, found.spec, folder / "features.safetensors")
    with in_this_process():
        result = convert(
            folder / "features.safetensors",
            out=folder / "out",
            formats=format_name,
            precisions=precision,
            calibration=_images(folder / "photos", found) if precision == "int8" else None,
        )
    assert result.failures == []
    return result


def _images(folder, checkpoint):
    from PIL import Image

    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, *checkpoint.spec.preprocessing.image_size, 3), np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("conversion", sampled(CONVERSIONS, CONVERSIONS[0], CONVERSIONS[2]), ids="-".join)
def test_a_file_of_features_is_verified_as_such(conversion, tmp_path):
    format_name, _, kind, _ = conversion
    result = _converted(*conversion, tmp_path)
    (artifact,) = result.artifacts
    ran = [verdict for verdict in result.verdicts if verdict.status != "unavailable"]
    assert ran
    assert {verdict.status for verdict in ran} == {"passed"}
    assert all(verdict.agreement.top1_agreement is None for verdict in ran)
    found = inspect_artifact(artifact)
    assert found.spec.features == kind
    assert len(found.outputs) == 1  # no label, no probabilities
    (output,) = found.outputs
    if format_name != "executorch":  # which numbers them
        assert output.name == "features"
    reference = artifact.reference()
    (shape,) = reference.shapes
    assert (1, *shape) == output.shape
    assert len(shape) == (1 if kind == "pooled" else 3)
    assert open_artifact(artifact.path.parent).manifest.spec.labels is None
    report = tmp_path / "report"
    options = ["--runtime", ran[0].runtime, "--report", str(report), "--json"]
    done = CliRunner().invoke(main, ["verify", str(artifact.path), *options])
    assert done.exit_code == 0, done.output
    assert json.loads((report / "verdicts.json").read_text())["passed"]


@pytest.mark.parametrize("format_name", sampled(["coreml", "executorch", "onnx", "tflite"], "onnx"))
@pytest.mark.parametrize("kind", [None, "pooled"])
def test_files_of_a_network_with_pre_logits_answer_as_it_does(format_name, kind, tmp_path):
    checkpoint = random_checkpoint(
        tiny_network_spec("vit", distillation_head=False, distillation_token=False, representation_dim=12), 3
    )
    checkpoint = features_of(checkpoint, kind) if kind else checkpoint
    with in_this_process():
        result = convert(checkpoint, out=tmp_path, formats=format_name)
    (artifact,) = result.artifacts
    assert artifact.reference().shapes == (((12,) if kind else (5,)),)
    ran = [verdict for verdict in result.verdicts if verdict.status != "unavailable"]
    assert [verdict.status for verdict in ran] == ["passed"] * len(ran) != []


@pytest.mark.slow
def test_another_network_s_features_fail(tmp_path):
    (artifact,) = _converted("tflite", "mobilevit", "pooled", "fp32", tmp_path).artifacts
    reference = artifact.reference()
    other = reference.answers[:, ::-1].copy()
    (verdict,) = verify(
        artifact, runtimes="litert-cpu", reference=lambda _: dataclasses.replace(reference, answers=other)
    )
    assert verdict.status == "failed"
    assert "best class" not in verdict.reason
    assert bisect(artifact).status == "agrees"
    whole = load_checkpoint(tmp_path / "features.safetensors")
    assert checkpoint_of(artifact, whole).spec.features == "pooled"


def test_what_needs_scores_says_so(tmp_path):
    found = features_of(phone_checkpoint("mobilevit"), "pooled")
    for call in (
        lambda: mobilevit_sdk.prune(found, macs=0.5, importance="magnitude"),
        lambda: mobilevit_sdk.quantize(found),
        lambda: mobilevit_sdk.synthesize(found, tmp_path / "a.parquet"),
        lambda: found.spec.with_labels(("a",), "labels.txt"),
    ):
        with pytest.raises(RequestError, match=r"needs class scores, but this .* returns features"):
            call()
    with pytest.raises(RequestError, match="give one of them"):
        load_checkpoint(features="map", num_classes=5)
    with pytest.raises(RequestError, match="'last' is no kind of features"):
        load_checkpoint(features="last")


def _release(checkpoint: Checkpoint, release: str) -> dict[str, torch.Tensor]:
    key_map = next(each for each in all_key_maps() if (each.release, each.family) == (release, checkpoint.spec.family))
    return release_weights(checkpoint.model, checkpoint.spec, key_map)


@pytest.mark.parametrize(
    ("release", "head", "task"),
    [
        ("transformers", "segmentation_head.aspp.convs.0.convolution.weight", "segmentation"),
        ("ml-cvnets", "seg_head.aspp.aspp_layer.aspp_pool.conv.weight", "segmentation"),
        ("ml-cvnets", "ssd_heads.0.loc_cls_layer.weight", "detection"),
    ],
)
def test_a_network_for_another_task_is_named_and_its_backbone_taken(release, head, task, tmp_path):
    """MobileViT's own are saved without the last convolution of the classifier."""
    whole = load_checkpoint()
    weights = {
        name: value
        for name, value in _release(whole, release).items()
        if not name.startswith(("classifier", "mobilevit.conv_1x1_exp", "conv_1x1_exp"))
    }
    if release == "ml-cvnets":
        weights = {f"encoder.{name}": value for name, value in weights.items()}
    path = tmp_path / "task.pth"
    torch.save(weights | {head: torch.rand(4, 4, 1, 1)}, path)
    with pytest.raises(CheckpointError, match=f"is a {task} checkpoint .* give `features=map`"):
        load_checkpoint(path)
    done = CliRunner().invoke(main, ["convert", str(path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "give --features map" in " ".join(done.stderr.split())
    found = load_checkpoint(path, features="map")
    assert any(f"is a {task} checkpoint" in note for note in found.notes)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.model(image), whole.model.stages(whole.model.stem(image)))
