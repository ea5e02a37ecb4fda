"""Class scores and features from one file: from the network over every target and format to the gate's verdict."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from family_contract import as_target_computes_gelu
from helpers import sampled
from made_once import in_this_process
from tiny_networks import FAMILIES, PATCHES, phone_checkpoint

from mobilevit_sdk import bisect, convert, deploy, inspect_artifact, load_checkpoint, predict, save_checkpoint, verify
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.checkpoints.features import classifier_of, features_of
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.formats.converter import find_converter

KINDS = ["pooled", "map"]
BOTH = [family for family in FAMILIES if family not in PATCHES]  # whose head replaces the classifier
CONVERSIONS = [
    ("onnx", None, "mobilevit", "map", "int8"),
    ("tflite", None, "tiny_vit", "pooled", "fp32"),
    ("coreml", None, "mobilevitv2", "map", "fp16"),
    ("executorch", "xnnpack", "efficientvit", "map", "fp32"),
    ("executorch", "xnnpack", "mobilevit", "pooled", "int8"),
    ("executorch", "coreml", "mobilevit", "pooled", "fp16"),
    ("executorch", "vulkan", "tiny_vit", "pooled", "fp16"),
    ("executorch", "coreai", "mobilevit", "map", "fp32"),
    ("coreai", None, "mobilevit", "pooled", "fp16"),
    ("tflite", None, "mobilevit", "pooled", "int8"),
]


def _image(checkpoint, dtype=torch.float32):
    height, width = checkpoint.spec.preprocessing.image_size
    return torch.rand(1, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", BOTH)
def test_one_pass_gives_what_two_networks_give_bit_for_bit(family, kind, tmp_path):
    classifier = phone_checkpoint(family)
    both = features_of(classifier, kind, scores=True)
    image = _image(classifier)
    logits, features = both.model(image)
    assert torch.equal(logits, classifier.model(image))
    assert torch.equal(features, features_of(classifier, kind).model(image))
    assert torch.equal(classifier_of(both).model(image), logits)
    save_checkpoint(both.model, both.spec, tmp_path / "both.safetensors")
    back = load_checkpoint(tmp_path / "both.safetensors")
    assert (back.spec, back.notes) == (both.spec, ())
    assert all(map(torch.equal, back.model(image), (logits, features)))
    save_checkpoint(classifier.model, classifier.spec, tmp_path / "whole.safetensors")
    assert load_checkpoint(tmp_path / "whole.safetensors", features=kind, scores=True).spec == both.spec


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("family", sampled(BOTH, "tiny_vit"))
def test_phone_graphs_return_both(family, target, kind):
    """In float64: no rewrite moves into the head what the features need, such as TinyViT's last norm."""
    both = features_of(phone_checkpoint(family), kind, scores=True)
    network, image = copy.deepcopy(both.model).double(), _image(both, torch.float64)
    expected = as_target_computes_gelu(network, target)(to_model_input(image, both.spec.preprocessing))
    for answer, wanted in zip(deploy(network, target, both.spec)(image), expected, strict=True):
        torch.testing.assert_close(answer, wanted, rtol=1e-8, atol=1e-8 * float(wanted.abs().max()))


def _photos(folder, checkpoint):
    """Smooth, dark and overexposed, as the cases are: ranges that are found on noise would cut those short."""
    from PIL import Image

    folder.mkdir()
    height, width = checkpoint.spec.preprocessing.image_size
    colors = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3))
    gains = 2 ** (np.arange(12) % 3)[:, None, None, None]
    for index, image in enumerate(np.minimum(colors * gains, 255).astype(np.uint8)):
        Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


def _converted(format_name, backend, family, kind, precision, folder):
    converter = find_converter(format_name, backend)
    if not converter.availability():
        pytest.skip(str(converter.availability().reason))
    both = features_of(phone_checkpoint(family), kind, scores=True)
    save_checkpoint(both.model, both.spec, folder / "both.safetensors")
    with in_this_process():
        result = convert(
            folder / "both.safetensors",
            out=folder / "out",
            formats=format_name,
            precisions=precision,
            backend=backend,
            calibration=_photos(folder / "photos", both) if precision == "int8" else None,
        )
    assert result.failures == []
    return result


@pytest.mark.parametrize("conversion", sampled(CONVERSIONS, CONVERSIONS[2]), ids=str)
def test_a_file_of_both_is_verified_output_by_output(conversion, tmp_path):
    result = _converted(*conversion, tmp_path)
    (artifact,) = result.artifacts
    _check(artifact, result.verdicts)


def _check(artifact, verdicts):
    """Each runtime that is here passed, on both outputs; the file has them under their names."""
    ran = [verdict for verdict in verdicts if verdict.status != "unavailable"]
    assert ran
    assert {verdict.status for verdict in ran} == {"passed"}
    for verdict in ran:
        assert list(verdict.outputs) == ["logits", "features"]
        assert verdict.agreement == verdict.outputs[verdict.worst_output]
        assert verdict.agreement.sqnr_db.worst == min(each.sqnr_db.worst for each in verdict.outputs.values())
        assert verdict.outputs["features"].top1_agreement is None
    found = inspect_artifact(artifact)
    shapes = dict(zip(("logits", "features"), artifact.reference().shapes, strict=True))
    assert {output.name: output.shape for output in found.outputs} == {n: (1, *s) for n, s in shapes.items()}
    assert found.spec == artifact.manifest.spec


@pytest.fixture(scope="module")
def onnx_artifact(tmp_path_factory):
    result = _converted("onnx", None, "mobilevit", "pooled", "fp32", tmp_path_factory.mktemp("onnx"))
    _check(result.artifacts[0], result.verdicts)
    return result.artifacts[0]


def _edited(artifact, folder, edit):
    """A copy of an ONNX artifact with its graph edited, as its manifest describes it."""
    import shutil

    import msgspec
    import onnx

    shutil.copytree(artifact.path.parent, folder)
    path = folder / artifact.path.name
    model = onnx.load(path)
    edit(model.graph, onnx)
    onnx.save(model, path)
    sha256, size = hash_and_size(path)
    return Artifact(path, msgspec.structs.replace(artifact.manifest, sha256=sha256, bytes=size))


def _scale_features(graph, onnx):
    """The features of the file alone, by a hundredth: the scores are computed from what they were."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "features":
                    names[index] = "unscaled"
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1.01), "factor"))
    graph.node.append(onnx.helper.make_node("Mul", ["unscaled", "factor"], ["features"], name="fault/Mul"))


def test_a_fault_in_one_output_alone_fails_and_is_named(onnx_artifact, tmp_path):
    faulty = _edited(onnx_artifact, tmp_path / "faulty", _scale_features)
    (verdict,) = verify(faulty, runtimes="onnxruntime")
    assert (verdict.status, verdict.worst_output) == ("failed", "features")
    assert verdict.reason.startswith("features: SQNR 40.0 dB on ")
    assert verdict.outputs["logits"].sqnr_db.worst > 100
    row = verdict.to_json()
    assert row["sqnr_db"] == row["outputs"]["features"]["sqnr_db"] != row["outputs"]["logits"]["sqnr_db"]


@pytest.mark.slow
def test_a_bisection_follows_the_output_that_is_wrong(onnx_artifact, tmp_path):
    checkpoint = onnx_artifact.path.parents[2] / "both.safetensors"
    found = bisect(_edited(onnx_artifact, tmp_path / "faulty", _scale_features), checkpoint=checkpoint)
    assert (found.status, found.output) == ("diverged", "features")
    assert bisect(onnx_artifact).status == "agrees"


def test_a_file_with_other_outputs_than_it_says_is_refused(onnx_artifact, tmp_path):
    def drop(graph, onnx):
        del graph.output[1]

    (verdict,) = verify(_edited(onnx_artifact, tmp_path / "one", drop), runtimes="onnxruntime")
    assert verdict.status == "failed"
    assert "has the outputs logits, and what it says of itself names logits, features" in verdict.reason

    def swap(graph, onnx):
        first, second = (copy.deepcopy(value) for value in graph.output)
        del graph.output[:]
        graph.output.extend([second, first])

    (verdict,) = verify(_edited(onnx_artifact, tmp_path / "swapped", swap), runtimes="onnxruntime")
    assert verdict.status == "passed"  # outputs are found by their names


def test_classes_are_predicted_from_such_a_file_as_from_its_checkpoint(onnx_artifact, tmp_path):
    photos = _photos(tmp_path / "photos", phone_checkpoint("mobilevit"))
    checkpoint = onnx_artifact.path.parents[2] / "both.safetensors"
    of_file, of_checkpoint = (predict(photos, target=target) for target in (onnx_artifact, checkpoint))
    best = [[[each.label for each in one.classes] for one in of.predictions] for of in (of_file, of_checkpoint)]
    assert best[0] == best[1]
    assert len(best[0]) == 12


def test_what_needs_a_plain_classifier_says_so(onnx_artifact, tmp_path):
    from mobilevit_sdk.apps.eligibility import check_artifacts
    from mobilevit_sdk.apps.platforms import IOS, WEB

    with pytest.raises(
        RequestError, match="an app needs a plain classifier, but this mobilevit_xxs returns logits and features"
    ):
        check_artifacts([onnx_artifact], further=IOS.further_outputs)
    check_artifacts([onnx_artifact], further=WEB.further_outputs)
    with pytest.raises(RequestError, match="a ViT returns class scores or features, not both"):
        features_of(phone_checkpoint("vit"), "pooled", scores=True)
    with pytest.raises(RequestError, match="`scores` asks for class scores beside features"):
        load_checkpoint(scores=True)
    done = CliRunner().invoke(main, ["convert", "--scores", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "--scores asks for class scores beside features: give --features, too" in " ".join(done.stderr.split())


def test_reference_vectors_that_lack_an_output_or_have_another_are_refused(onnx_artifact, tmp_path):
    import safetensors.numpy

    from mobilevit_sdk.artifacts.reference import read_reference

    whole = onnx_artifact.path.parent / "reference.safetensors"
    tensors = safetensors.numpy.load_file(whole)
    with safetensors.safe_open(whole, framework="numpy") as file:
        metadata = file.metadata()
    assert sorted(tensors) == ["features", "images", "logits"]
    features = tensors["features"]
    for change, message in (
        ({"features": None}, "does not hold reference vectors"),
        ({"boxes": features}, "holds 'boxes', which mobilevit_xxs does not return"),
        ({"features": features[:-1]}, "expected a float32 row for each case"),
        ({"features": features.astype(np.float16)}, "expected a float32 row for each case"),
        ({"features": features[:, 0]}, "expected a float32 row for each case"),
        ({"features": features[:, :0]}, "features are float32"),
        ({"features": features * np.float32(np.inf)}, "not finite"),
        ({"logits": features}, "expected 5 classes"),
    ):
        kept = {name: value for name, value in (tensors | change).items() if value is not None}
        path = tmp_path / "reference.safetensors"
        path.write_bytes(safetensors.numpy.save(kept, metadata=metadata))
        with pytest.raises(ArtifactError, match=message):
            read_reference(path, onnx_artifact.manifest.spec)
