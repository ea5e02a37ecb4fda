"""Core ML files: what is in them, that they compute what PyTorch computes, and that damaged ones are refused."""

from __future__ import annotations

import json
import platform
import shutil

import msgspec
import numpy as np
import pytest
import torch
from helpers import randomize, tiny_model
from mobilevit_converters.coreml import converter
from phone_files import same_spec
from torch import nn

from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.errors import ArtifactError, ToolchainError
from mobilevit_sdk.models.registry import build_model, model_spec, spec_at_size
from mobilevit_sdk.spec import Preprocessing

pytest.importorskip("coremltools")

from mobilevit_converters.coreml.convert import distinct
from mobilevit_converters.coreml.file.package import model_file, operations, parse_model, read_package
from mobilevit_converters.coreml.runtimes.reference.program import ReferenceProgram

SIZE = 36  # the MobileViT block sees 9 x 9 and resizes to 10 x 10 and back
REFERENCE = next(runtime for runtime in converter.runtimes if runtime.name == "coreml-reference")


def convert(model, spec, precision, path):
    converter.convert(deploy(model, converter.target, spec), spec, precision, path)
    return path


@pytest.fixture(scope="module")
def tiny(phone_files):
    checkpoint = phone_files.checkpoint()
    return checkpoint.model, checkpoint.spec


@pytest.fixture(scope="module")
def packages(phone_files):
    """The tiny network in both precisions. Read only: `copy` gives one to damage."""
    return {precision: phone_files.file("coreml", precision).path for precision in ("fp16", "fp32")}


@pytest.fixture
def copy(packages, tmp_path):
    return shutil.copytree(packages["fp16"], tmp_path / "copy.mlpackage")


def cases(size):
    """Images that differ, and edge cases: black, white, one bright pixel, a transposed memory layout."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3, size, size), dtype=np.uint8) for _ in range(3)]
    dot = np.zeros((3, size, size), np.uint8)
    dot[:, size // 3, size // 4] = 255
    layout = rng.integers(0, 256, (size, size, 3), dtype=np.uint8).transpose(2, 1, 0)
    return [*images, np.zeros_like(dot), np.full_like(dot, 255), dot, layout]


def worst_sqnr_db(model, spec, path):
    """The worst ratio of signal to error over the cases; the best class must be the same on each."""
    run = REFERENCE.load(path)
    decibels = []
    for image in cases(spec.preprocessing.image_size[0]):
        pixels = torch.from_numpy(np.ascontiguousarray(image))[None]
        with torch.no_grad():
            expected = model(to_model_input(pixels, spec.preprocessing))[0].double().numpy()
        found = run(image)
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        assert found.argmax() == expected.argmax()
        with np.errstate(divide="ignore"):
            decibels.append(10 * np.log10((expected**2).sum() / ((found - expected) ** 2).sum()))
    return min(decibels)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize(("precision", "floor_db"), [("fp32", 90), ("fp16", 40)])
def test_full_size_package_computes_what_pytorch_computes(size, precision, floor_db, tmp_path):
    spec = model_spec("mobilevit_xxs", num_classes=10)
    spec = spec_at_size(spec, size, size)
    model = randomize(build_model(spec), 1).eval()
    assert worst_sqnr_db(model, spec, convert(model, spec, precision, tmp_path / "a.mlpackage")) >= floor_db


def test_fp32_package_has_no_float16_and_fp16_package_computes_in_it(packages):
    float16 = 10  # MIL_pb2.DataType.FLOAT16

    def types(precision):
        block = read_package(packages[precision]).block
        return {o.type: {v.type.tensorType.dataType for v in o.outputs} for o in operations(block)}

    assert not any(float16 in kinds for kinds in types("fp32").values())
    assert all(types("fp16")[kind] == {float16} for kind in ("conv", "linear", "matmul", "layer_norm", "silu"))


def test_package_is_a_classifier_that_xcode_and_vision_take(tiny, packages):
    _, spec = tiny
    model = read_package(packages["fp16"]).model
    description = model.description
    assert model.specificationVersion == 7  # iOS 16
    (image,) = description.input
    assert image.name == "image"
    assert (image.type.imageType.width, image.type.imageType.height) == (SIZE, SIZE)
    assert image.type.imageType.colorSpace == image.type.imageType.RGB
    assert description.predictedFeatureName == "classLabel"
    assert description.predictedProbabilitiesName == "classLabel_probs"
    assert [output.name for output in description.output] == ["classLabel", "classLabel_probs", "logits"]
    assert description.metadata.userDefined["com.apple.coreml.model.preview.type"] == "imageClassifier"
    (classify,) = (o for o in operations(read_package(packages["fp16"]).block) if o.type == "classify")
    classes = classify.inputs["classes"].arguments[0].value.immediateValue.list.values
    assert tuple(c.immediateValue.tensor.strings.values[0] for c in classes) == spec.labels


def test_label_and_probabilities_belong_to_the_logits(tiny, packages):
    _, spec = tiny
    program = ReferenceProgram(read_package(packages["fp32"]))
    image = torch.from_numpy(cases(SIZE)[0]).float()[None]
    answer = program({"image": image})
    expected = answer["logits"].softmax(-1)[0]
    assert answer["classLabel"] == spec.labels[int(expected.argmax())]
    assert list(answer["classLabel_probs"]) == list(spec.labels)
    torch.testing.assert_close(torch.tensor(list(answer["classLabel_probs"].values())), expected)


def test_one_score_is_no_classifier_that_is_always_sure(tmp_path):
    network, spec = tiny_model(num_classes=1, image_size=SIZE)
    path = convert(network, spec, "fp16", tmp_path / "one.mlpackage")
    found = converter.inspect(path)
    assert [(output.name, output.shape) for output in found.outputs] == [("logits", (1, 1))]
    assert found.spec.labels == spec.labels
    model = read_package(path).model
    assert model.description.output[0].shortDescription == "The score of 'class 0' before a sigmoid: above 0 means yes"
    assert "com.apple.coreml.model.preview.type" not in model.description.metadata.userDefined
    run = REFERENCE.load(path)
    assert len({round(float(run(image)[0]), 3) for image in cases(SIZE)}) > 3


def test_package_without_labels_answers_logits_alone(tiny, tmp_path):
    model, spec = tiny
    spec = msgspec.structs.replace(spec, labels=None)
    path = convert(model, spec, "fp16", tmp_path / "plain.mlpackage")
    assert [output.name for output in converter.inspect(path).outputs] == ["logits"]
    assert worst_sqnr_db(model, spec, path) >= 40


def test_repeated_labels_stay_apart():
    assert distinct(("crane", "heron", "crane", "crane")) == ["crane", "heron", "crane (2)", "crane (3)"]
    assert distinct(("crane", "crane (2)", "crane")) == ["crane", "crane (2)", "crane (3)"]


def test_same_model_gives_the_same_bytes(tiny, packages, tmp_path):
    again = convert(*tiny, "fp16", tmp_path / "again.mlpackage")

    def contents(path):
        return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}

    assert contents(again) == contents(packages["fp16"])


def test_conversion_is_silent(tiny, tmp_path, capfd):
    convert(*tiny, "fp16", tmp_path / "quiet.mlpackage")
    assert capfd.readouterr() == ("", "")


class _Head(nn.Module):
    """A classifier around one operation."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation
        self.conv = nn.Conv2d(3, 5, 1)

    def forward(self, x):
        return self.operation(self.conv(x) * 3).mean((2, 3))


def one_operation(operation):
    _, spec = tiny_model()
    preprocessing = Preprocessing(image_size=(6, 6), resize_size=6)
    return randomize(_Head(operation), 0).eval(), msgspec.structs.replace(spec, preprocessing=preprocessing)


def test_tanh_gelu_stays_tanh(tmp_path):
    """Read through torch.export, coremltools 9.0 loses the keyword and writes the exact form."""
    model, spec = one_operation(nn.GELU("tanh"))
    path = convert(model, spec, "fp32", tmp_path / "gelu.mlpackage")
    assert worst_sqnr_db(model, spec, path) >= 110  # the exact form reaches 95


def test_what_the_toolchain_cannot_convert_is_named(tmp_path):
    model, spec = one_operation(lambda x: nn.functional.interpolate(x, (8, 8), mode="bicubic"))
    with pytest.raises(ToolchainError, match="upsample_bicubic2d"):
        convert(model, spec, "fp16", tmp_path / "bicubic.mlpackage")


def test_a_full_disk_is_no_toolchain_error(tiny, tmp_path, monkeypatch):
    import coremltools

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(coremltools, "convert", full)
    with pytest.raises(OSError, match="No space left"):
        convert(*tiny, "fp16", tmp_path / "full.mlpackage")


def test_inspection_reads_the_file(tiny, packages):
    _, spec = tiny
    found = converter.inspect(packages["fp16"])
    assert same_spec(found.spec, spec)
    assert [(t.name, t.shape, t.dtype) for t in found.inputs] == [("image", (1, 3, SIZE, SIZE), "RGB image")]
    assert ("logits", (1, 5), "float32") in [(t.name, t.shape, t.dtype) for t in found.outputs]
    assert found.max_rank == 4
    assert (found.delegates, found.undelegated_ops) == (None, None)
    assert "const" not in found.operators
    assert found.operators["upsample_bilinear"] == 2  # up before attention, down after it
    assert found.operators["layer_norm"] == 5  # two for each of two transformer blocks, one behind them
    assert found.operators["matmul"] == 4


def rewrite(path, change):
    """Apply `change` to the parsed model of a package."""
    file = model_file(path)
    model = parse_model(file)
    change(model)
    file.write_bytes(model.SerializeToString())


def main_operations(model):
    main = model.mlProgram.functions["main"]
    return main.block_specializations[main.opset].operations


def test_unknown_operator_is_named_with_its_place(copy):
    def change(model):
        silu = next(o for o in main_operations(model) if o.type == "silu")
        silu.type, silu.outputs[0].name = "softsign", "here"

    rewrite(copy, change)
    with pytest.raises(ToolchainError, match=r"does not know operator softsign \(here\)"):
        REFERENCE.load(copy)


def test_program_whose_stated_shape_is_wrong_is_refused(copy):
    def change(model):
        conv = next(o for o in main_operations(model) if o.type == "conv")
        conv.outputs[0].type.tensorType.dimensions[2].constant.size = 5

    rewrite(copy, change)
    with pytest.raises(ArtifactError, match="cannot read the program"):
        REFERENCE.load(copy)


def _manifest(path, change):
    manifest = path / "Manifest.json"
    document = json.loads(manifest.read_text())
    change(document)
    manifest.write_text(json.dumps(document))


def _root_path(path, value):
    def change(document):
        document["itemInfoEntries"][document["rootModelIdentifier"]]["path"] = value

    _manifest(path, change)


def _weights(path):
    return path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


def _weight_name(path, name):
    def change(model):
        for operation in main_operations(model):
            if operation.attributes["val"].WhichOneof("value") == "blobFileValue":
                operation.attributes["val"].blobFileValue.fileName = name

    rewrite(path, change)


def _unknown_type(model):
    model.description.output[2].type.multiArrayType.dataType = 12345


def _link_model_outside(path):
    file = model_file(path)
    outside = file.rename(path.parent / "outside.mlmodel")
    file.symlink_to(outside)


DAMAGES = {
    "no manifest": lambda p: (p / "Manifest.json").unlink(),
    "a manifest that is no JSON": lambda p: (p / "Manifest.json").write_text("{"),
    "a manifest of another shape": lambda p: (p / "Manifest.json").write_text('{"itemInfoEntries": []}'),
    "a root that is not listed": lambda p: _manifest(p, lambda d: d.update(rootModelIdentifier="none")),
    "a path out of the package": lambda p: _root_path(p, "../../../../etc/passwd"),
    "an absolute path": lambda p: _root_path(p, "/etc/passwd"),
    "an impossible path": lambda p: _root_path(p, "model\0"),
    "a path that is too long": lambda p: _root_path(p, "x" * 5000),
    "a link out of the package": _link_model_outside,
    "no model": lambda p: model_file(p).unlink(),
    "an empty model": lambda p: model_file(p).write_bytes(b""),
    "a truncated model": lambda p: model_file(p).write_bytes(model_file(p).read_bytes()[:-1000]),
    "a foreign model": lambda p: model_file(p).write_bytes(b"PK\x03\x04 not a protobuf message"),
    "a neural network": lambda p: rewrite(p, lambda m: m.neuralNetwork.SetInParent()),
    "no main function": lambda p: rewrite(p, lambda m: m.mlProgram.functions.pop("main")),
    "no weights": lambda p: _weights(p).unlink(),
    "empty weights": lambda p: _weights(p).write_bytes(b""),
    "truncated weights": lambda p: _weights(p).write_bytes(_weights(p).read_bytes()[:-100]),
    "overwritten weights": lambda p: _weights(p).write_bytes(bytes(len(_weights(p).read_bytes()))),
    "weights out of the package": lambda p: _weight_name(p, "@model_path/weights/../../../../secret.bin"),
    "weights by absolute path": lambda p: _weight_name(p, "/etc/passwd"),
    "an unknown element type": lambda p: rewrite(p, _unknown_type),
    "a malformed spec": lambda p: rewrite(p, lambda m: m.description.metadata.userDefined.update(mobilevit_sdk="{}")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_package_is_one_line(damage, copy):
    DAMAGES[damage](copy)
    with pytest.raises(ArtifactError) as error:
        converter.inspect(copy)
    assert "\n" not in str(error.value)
    if damage not in ("a malformed spec", "an unknown element type"):  # the program itself is whole
        with pytest.raises(ArtifactError):
            REFERENCE.load(copy)


def test_file_that_is_no_package_is_refused(tmp_path):
    (tmp_path / "file.mlpackage").write_bytes(b"CoreML")
    for path in (tmp_path / "file.mlpackage", tmp_path / "missing.mlpackage", tmp_path):
        with pytest.raises(ArtifactError, match=r"is not an \.mlpackage"):
            converter.inspect(path)


def test_apple_runtime_says_why_it_is_not_here(monkeypatch):
    (runtime,) = (r for r in converter.runtimes if r.name == "coreml")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert not runtime.availability()
    assert "coreml-reference" in runtime.availability().reason
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert runtime.availability().version
