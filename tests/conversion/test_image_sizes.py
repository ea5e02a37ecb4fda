"""One file with several image sizes: each entry answers like PyTorch, and the weights are stored once."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import numpy as np
import pytest
import torch
from made_once import in_this_process, made_once
from PIL import Image
from tiny_networks import tiny_model

from mobilevit_sdk import bisect, convert, inspect_artifact, load_checkpoint, predict, save_checkpoint, verify
from mobilevit_sdk.artifacts.artifact import MANIFEST, find_artifact, open_artifact
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.bench.candidates import candidates_of
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data import crop_image, to_model_input
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.models.registry import model_spec, spec_at_size
from mobilevit_sdk.models.resize import networks_at_sizes, resize_network

SIZES = ((32, 32), (48, 32), (32, 48))
NAMES = ["image_48x32", "image_32x48"]
FIRST = {"executorch": "forward", "tflite": "serving_default", "coreml": "main", "coreai": "main"}
FORMATS = [
    ("coreml", "fp16"),
    ("executorch", "fp16"),
    pytest.param("tflite", "fp16", marks=pytest.mark.slow),
    pytest.param("tflite", "fp32", marks=pytest.mark.slow),
    pytest.param("executorch", "fp32", marks=pytest.mark.slow),
    pytest.param("coreml", "fp32", marks=pytest.mark.slow),
    pytest.param("coreai", "fp16", marks=pytest.mark.slow),
]


def wide_vit(sizes=SIZES):
    """A block of ViT-Tiny and few patches: weights are nearly all of its file, as they are of a whole network's."""
    spec = spec_at_size(model_spec("vit_tiny_patch16_224", depth=1, num_classes=10, image_size=(32, 32)), 32, 32)
    return random_checkpoint(Preparation(image_sizes=sizes).apply(spec, trained=False)[0], 3)


@pytest.fixture(scope="session")
def artifact_of(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp().parent / "image-sizes"
    folder.mkdir(exist_ok=True)

    def make(format, precision, checkpoint, name):
        availability = find_converter(format).availability()
        if not availability:
            pytest.skip(str(availability.reason))

        def fill(out):
            with in_this_process():
                result = convert(checkpoint, out=out, formats=format, precisions=precision, check=False)
            assert result.failures == []

        return find_artifact(made_once(folder / f"{format}-{precision}-{name}", fill))

    return make


@pytest.mark.parametrize(("format", "precision"), FORMATS)
def test_a_file_of_three_sizes_answers_like_pytorch_at_each_and_stores_its_weights_once(artifact_of, format, precision):
    checkpoint = wide_vit()
    several = artifact_of(format, precision, checkpoint, "several")
    spec = checkpoint.spec.entries[0]
    one = artifact_of(format, precision, dataclasses.replace(checkpoint, spec=spec), "one")
    assert several.manifest.bytes <= 1.10 * one.manifest.bytes
    assert (several.manifest.schema, one.manifest.schema, "entries" in (one.path.parent / MANIFEST).read_text()) == (
        *(2, 1),
        False,
    )
    entries = several.manifest.entries
    assert [entry.name for entry in entries] == [FIRST[format], *NAMES]
    assert [entry.image_size for entry in entries] == list(SIZES)
    assert [entry.app_input.resizing.center_crop for entry in entries] == list(SIZES)
    assert {(entry.delegates, str(entry.undelegated_ops)) for entry in entries} <= {(1, "{}"), (None, "None")}
    inspection = inspect_artifact(several)
    assert [entry.name for entry in inspection.entries] == [entry.name for entry in entries]
    assert inspection.operators == {
        name: sum(entry.operators.get(name, 0) for entry in entries) for name in inspection.operators
    }
    with in_this_process():
        verdicts = [each for each in verify(several) if each.status != "unavailable"]
    assert verdicts
    # Random weights are not what float16's threshold is for; the wrong constants would be at 10 dB or not finite.
    floor = 90 if precision == "fp32" else 20
    assert min(each.agreement.sqnr_db.worst for each in verdicts) > floor, [each.reason for each in verdicts]
    assert {each.agreement.cases for each in verdicts} == {3 * 27}


def test_the_reference_names_the_size_and_holds_each_networks_own_answers(artifact_of):
    checkpoint = wide_vit()
    reference = artifact_of("coreml", "fp16", checkpoint, "several").reference()
    names = [case.name for case in reference.cases]
    assert len(set(names)) == len(names) == 81
    assert (names[25], names[52], names[79]) == ("noise", "noise at 48x32", "noise at 32x48")
    network, spec = resize_network(checkpoint.model, checkpoint.spec.entries[0], 32, 48)
    pixels = torch.from_numpy(reference.cases[79].image)[None]
    with torch.no_grad():
        expected = network(to_model_input(pixels, spec.preprocessing))[0].numpy()
    assert np.abs(reference.answers[79] - expected).max() < 1e-5


def test_pictures_take_the_entry_of_the_nearest_aspect_ratio(artifact_of, tmp_path):
    checkpoint = wide_vit()
    artifact = artifact_of("coreml", "fp16", checkpoint, "several")
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    shapes = {"wide.png": (2, 90, 60), "tall.png": (1, 60, 90), "square.png": (0, 80, 80)}
    for name, (_, width, height) in shapes.items():
        Image.fromarray(pixels[:height, :width]).save(tmp_path / name)
    found = predict([tmp_path / name for name in shapes], artifact, runtime="coreml-reference", top=1)
    entries = checkpoint.spec.entries
    for prediction, (name, (index, *_)) in zip(found.predictions, shapes.items(), strict=True):
        crop = crop_image(Image.open(tmp_path / name), entries[index].preprocessing)
        with torch.no_grad():
            given = to_model_input(torch.from_numpy(crop)[None], entries[index].preprocessing)
            scores = checkpoint.networks()[index](given)[0]
        assert prediction.classes[0].score == pytest.approx(float(scores.max()), abs=0.05)


@pytest.mark.slow
def test_bisection_and_benchmark_know_entries(artifact_of):
    checkpoint = wide_vit()
    artifact = artifact_of("tflite", "fp32", checkpoint, "several")
    for size, at in (((48, 32), " at 48x32"), ((32, 32), "")):
        found = bisect(artifact, image_size=size)
        assert found.status == "agrees"
        assert all(case.endswith(at) and (" at " in case) == bool(at) for case in found.cases)
    with pytest.raises(RequestError, match="takes images of 32x32, 48x32, 32x48, not of 40x40"):
        bisect(artifact, image_size=(40, 40))
    rows = candidates_of(artifact)
    assert [row.runtime for row in rows] == [f"litert-cpu at {size}" for size in ("32x32", "48x32", "32x48")]
    assert [row.question.image.shape[1:] for row in rows] == list(SIZES)


@pytest.mark.parametrize("family", ["mobilevit", "mobilevitv2", "vit", "tiny_vit", "efficientvit"])
def test_networks_of_all_sizes_come_from_the_files_own_and_share_what_is_equal(family):
    model, stored = tiny_model(family, 96)
    sizes = ((96, 96), (128, 64), (64, 128))
    spec, _ = Preparation(image_sizes=sizes).apply(stored)
    networks = networks_at_sizes(model, stored, spec)
    for network, size in zip(networks, sizes, strict=True):
        alone, _ = resize_network(model, stored, *size, spec.windows or None)
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(torch.cat(_as_tuple(network(image))), torch.cat(_as_tuple(alone(image))))
    first = dict(networks[0].named_parameters())
    shared = [name for name, tensor in networks[1].named_parameters() if tensor is first[name]]
    own = {name for name in first if name not in shared}
    assert {name.rpartition(".")[2] for name in own} <= {"positions", "table"}
    assert own or family in ("mobilevit", "mobilevitv2", "tiny_vit")


def _as_tuple(answers):
    return answers if isinstance(answers, tuple) else (answers,)


def test_a_checkpoint_of_several_sizes_is_saved_and_loaded_as_one_network(tmp_path):
    model, stored = tiny_model("vit", 32)
    save_checkpoint(model, stored, tmp_path / "own.safetensors")
    loaded = load_checkpoint(tmp_path / "own.safetensors", image_size=[(32, 48), (48, 32)])
    assert loaded.spec.sizes == ((32, 48), (48, 32))
    assert "positions were interpolated from 32x32 to 48x32 pixels" in loaded.notes
    assert torch.equal(loaded.own[0].tokens.positions, model.tokens.positions)
    save_checkpoint(loaded.model, loaded.spec, tmp_path / "again.safetensors")
    again = load_checkpoint(tmp_path / "again.safetensors")
    assert again.spec.sizes == ((32, 48),)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((32, 32), (48, 32), (32, 32)), "the image size 32x32 is given twice"),
        (tuple((32, 32 * n) for n in range(1, 18)), "2 to 16 image sizes, not 17"),
        (((32, 32), (40, 36)), "images of 40x36 are not whole patches of 8 pixels"),
    ],
)
def test_sizes_that_no_file_holds_are_refused(sizes, message):
    _, stored = tiny_model("vit", 32)
    with pytest.raises(RequestError, match=message):
        Preparation(image_sizes=sizes).apply(stored)


def test_formats_and_precisions_of_one_size_refuse_several_before_any_work(tmp_path):
    checkpoint = wide_vit()
    for format, precision, message in (
        ("onnx", "fp32", "onnx fp32 with several image sizes: onnx files hold one size"),
        ("tflite", "int8", "tflite int8 with several image sizes: int8 is not calibrated for several"),
    ):
        if find_converter(format).availability():
            with pytest.raises(RequestError, match=message):
                convert(checkpoint, out=tmp_path / "out", formats=format, precisions=precision)
    assert not (tmp_path / "out").exists()


def test_maps_of_features_have_one_size():
    _, stored = tiny_model("mobilevit", 64)
    mapped = msgspec.structs.replace(stored, features="map", labels=None)
    with pytest.raises(RequestError, match="take one size, or `pooled`"):
        Preparation(image_sizes=((64, 64), (64, 96))).apply(mapped)


def _no(document):
    del document["entries"]


def _twice(document):
    document["entries"][1] = document["entries"][2]


def _renamed(document):
    document["entries"][1]["name"] = "forward; rm"


def _other_size(document):
    document["spec"]["image_sizes"][1] = [64, 32]


def _first(document):
    document["spec"]["image_sizes"].reverse()


def _many(document):
    document["spec"]["image_sizes"] = [[32, 32 * n] for n in range(1, 100_000)]


@pytest.mark.parametrize("change", [_no, _twice, _renamed, _other_size, _first, _many])
def test_manifests_whose_entries_disagree_with_their_spec_are_refused(artifact_of, tmp_path, change):
    artifact = artifact_of("coreml", "fp16", wide_vit(), "several")
    document = json.loads((artifact.path.parent / MANIFEST).read_text())
    change(document)
    (tmp_path / document["file"]).mkdir()
    (tmp_path / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ArtifactError) as refused:
        open_artifact(tmp_path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_reference_vectors_of_another_size_are_refused(artifact_of, tmp_path):
    artifact = artifact_of("coreml", "fp16", wide_vit(), "several")
    (tmp_path / artifact.path.name).mkdir()
    (tmp_path / MANIFEST).write_bytes((artifact.path.parent / MANIFEST).read_bytes())
    import safetensors.numpy

    tensors = safetensors.numpy.load_file(artifact.path.parent / REFERENCE)
    assert sorted(tensors) == ["images", "images_32x48", "images_48x32", "logits"]
    with safetensors.safe_open(artifact.path.parent / REFERENCE, "numpy") as file:
        metadata = file.metadata()
    for changed in (
        {**tensors, "images_48x32": tensors["images_32x48"]},
        {name: tensor for name, tensor in tensors.items() if name != "images_48x32"},
        {**tensors, "images_64x64": tensors["images"]},
        {**tensors, "images_48x32": tensors["images_48x32"][:5]},
    ):
        safetensors.numpy.save_file(changed, tmp_path / REFERENCE, metadata=metadata)
        with pytest.raises(ArtifactError, match="reference"):
            open_artifact(tmp_path).reference()
