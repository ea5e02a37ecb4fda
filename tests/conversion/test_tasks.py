"""Tasks beside a network's own classes, from their files to the gate's verdict and to predictions."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import sampled
from made_once import in_this_process
from tiny_networks import phone_checkpoint, with_tasks

from mobilevit_sdk import (
    benchmark,
    bisect,
    convert,
    evaluate,
    inspect_artifact,
    load_checkpoint,
    predict,
    prune,
    quantize,
    save_checkpoint,
    verify,
)
from mobilevit_sdk.checkpoints.task_file import TaskHeader, save_task, weights_sha256
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.parity.images import reference_for_images
from mobilevit_sdk.quantization.search import Goal
from mobilevit_sdk.spec import MemoryTask

PETS = MemoryTask(name="pets", num_classes=3, cells=2, labels=("cat", "dog", "fish"))
FOOD = MemoryTask(name="food", num_classes=4, cells=0)
SEED = 8  # of random tasks whose best classes are far apart
CONVERSIONS = [
    ("onnx", None, "vit", "fp32"),
    ("tflite", None, "vit", "fp32"),
    ("tflite", None, "deepvit", "fp16"),
    ("coreml", None, "deepvit", "fp16"),
    ("coreml", "ane", "vit", "fp16"),
    ("executorch", "xnnpack", "deepvit", "fp32"),
    ("executorch", "vulkan", "vit", "fp32"),
    ("executorch", "coreml", "vit", "fp16"),
    ("coreai", None, "deepvit", "fp16"),
]


def _files(folder, family="vit"):
    """A base and two tasks on it, as files; the names of the tasks' files."""
    folder.mkdir(exist_ok=True)
    base = phone_checkpoint(family)
    both = with_tasks(base, PETS, FOOD, seed=SEED)
    save_checkpoint(base.model, base.spec, folder / "base.safetensors")
    for index, task in enumerate((PETS, FOOD)):
        header = TaskHeader(
            task=task,
            base_model=base.spec.model,
            base_source="base.safetensors",
            base_sha256=weights_sha256(base.model),
            preprocessing=base.spec.preprocessing,
        )
        save_task(both.model, index, header, folder / f"{task.name}.safetensors")
    return [folder / "pets.safetensors", folder / "food.safetensors"]


def _photos(folder, size, number=12):
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(number):
        inside = folder / ("cat", "dog")[index % 2]
        inside.mkdir(parents=True, exist_ok=True)
        colors = np.minimum(rng.integers(0, 256, (4, 4, 3)) * 2 ** (index % 3), 255).astype(np.uint8)
        Image.fromarray(colors).resize(size[::-1], Image.Resampling.BICUBIC).save(inside / f"{index}.png")
    return folder


@pytest.mark.parametrize("conversion", sampled(CONVERSIONS, CONVERSIONS[1]), ids=str)
def test_a_file_with_tasks_is_verified_task_by_task(conversion, tmp_path):
    name, backend, family, precision = conversion
    converter = find_converter(name, backend)
    if not converter.availability():
        pytest.skip(str(converter.availability().reason))
    checkpoint = load_checkpoint(tmp_path / "base.safetensors", tasks=_files(tmp_path, family))
    with in_this_process():
        result = convert(
            checkpoint,
            out=tmp_path / "out",
            formats=name,
            precisions=precision,
            backend=backend,
        )
    assert result.failures == []
    (artifact,) = result.artifacts
    assert artifact.manifest.delegates in (1, None)
    assert not artifact.manifest.undelegated_ops
    ran = [verdict for verdict in result.verdicts if verdict.status != "unavailable"]
    assert {verdict.status for verdict in ran} == {"passed"}, [verdict.reason for verdict in ran]
    for verdict in ran:
        assert list(verdict.outputs) == ["logits", "pets", "food"]
        assert all(each.top1_agreement is not None for each in verdict.outputs.values())
    assert inspect_artifact(artifact).spec == checkpoint.spec


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The folder of the sources, and an ONNX file with both tasks, made by the command."""
    if not find_converter("onnx").availability():
        pytest.skip("onnx is not installed")
    folder = tmp_path_factory.mktemp("tasks")
    tasks = _files(folder)
    given = [str(each) for task in tasks for each in ("--task", task)]
    with in_this_process():
        done = CliRunner().invoke(
            main, ["convert", str(folder / "base.safetensors"), *given, "--to", "onnx", "--out", str(folder / "out")]
        )
    assert done.exit_code == 0, done.stderr
    (artifact,) = (folder / "out").iterdir()
    return folder, artifact, tasks


def test_a_task_is_predicted_and_measured_from_its_file_as_from_its_checkpoint(converted, tmp_path):
    folder, artifact, tasks = converted
    checkpoint = load_checkpoint(folder / "base.safetensors", tasks=tasks)
    photos = _photos(tmp_path / "photos", checkpoint.spec.preprocessing.image_size)
    for task, labels in (("pets", PETS.labels), ("food", ("class 0", "class 1", "class 2", "class 3")), (None, None)):
        found = [predict(photos, target, task=task, top=9).predictions for target in (artifact, checkpoint)]
        names = [[[each.name for each in one.classes] for one in of] for of in found]
        assert names[0] == names[1]
        assert len({tuple(each) for each in names[0]}) > 1  # the answer depends on the image
        assert labels is None or set(names[0][0]) == set(labels)
    of_file, of_checkpoint = (evaluate(target, data=photos, task="pets") for target in (artifact, checkpoint))
    assert of_file.accuracy == of_checkpoint.accuracy
    with pytest.raises(RequestError, match="answers no task called 'dogs'; it has pets, food"):
        predict(photos, checkpoint, task="dogs")


def test_the_file_says_which_tasks_it_answers(converted):
    import onnx

    _, artifact, _ = converted
    done = CliRunner().invoke(main, ["inspect", str(artifact), "--json"])
    document = json.loads(done.stdout)
    assert [output["name"] for output in document["outputs"]] == ["logits", "pets", "food"]
    assert [(task["name"], task["num_classes"]) for task in document["tasks"]] == [("pets", 3), ("food", 4)]
    assert "pets, 3 classes, 2 memory cells a block: cat, dog, fish" in " ".join(
        CliRunner().invoke(main, ["inspect", str(artifact)]).stdout.split()
    )
    entries = {entry.key: entry.value for entry in onnx.load(next(artifact.glob("*.onnx"))).metadata_props}
    assert json.loads(entries["labels_pets"]) == list(PETS.labels)


def test_a_recipe_is_searched_for_all_tasks_and_labels_are_of_the_task_that_names_them(tmp_path):
    checkpoint = load_checkpoint(tmp_path / "base.safetensors", tasks=_files(tmp_path))
    photos = _photos(tmp_path / "photos", checkpoint.spec.preprocessing.image_size, number=24)
    goal = Goal(size=0.9, agreement=0.5, sqnr_db=5.0)
    found = quantize(checkpoint, calibration=photos, search=True, goal=goal, out=tmp_path / "quantized")
    assert found.losses
    for point in found.points:
        assert list(point.outputs) == ["logits", "pets", "food"]
        assert [each.top1 is not None for each in point.outputs.values()] == [False, True, False]
        assert point.top1 == point.outputs["pets"].top1
        assert point.agreement == min(each.agreement for each in point.outputs.values())
        assert point.overall_sqnr_db == min(each.overall_sqnr_db for each in point.outputs.values())
    assert "head" in {loss.block for loss in found.losses}  # of all tasks


def test_what_needs_a_plain_classifier_says_so(converted, tmp_path):
    folder, _, tasks = converted
    checkpoint = load_checkpoint(folder / "base.safetensors", tasks=tasks)
    with pytest.raises(RequestError, match="prune the base without tasks, then train each task on the pruned one"):
        prune(checkpoint, params=0.8, importance="magnitude")
    random = ["vit_tiny_patch16_224", "--random-weights", "0"]
    done = CliRunner().invoke(main, ["convert", *random, "--task", str(tasks[0])])
    assert done.exit_code == 2
    assert "--task stand on the trained checkpoint" in " ".join(done.stderr.split())


def test_bisect_bench_and_images_of_ones_own_know_the_files_of_tasks(converted, tmp_path):
    folder, artifact, tasks = converted
    origin = json.loads((artifact / "manifest.json").read_text())["origin"]
    assert [task["source"] for task in origin["tasks"]] == ["../../pets.safetensors", "../../food.safetensors"]
    found = bisect(artifact)
    assert (found.status, len(found.operators) > 20) == ("agrees", True)
    photos = _photos(tmp_path / "photos", phone_checkpoint("vit").spec.preprocessing.image_size)
    (verdict,) = verify(artifact, reference=reference_for_images(photos, None))
    assert (verdict.status, list(verdict.outputs)) == ("passed", ["logits", "pets", "food"])
    measured = benchmark(artifact, against="pytorch", threads=(1,), rounds=1)
    assert {row.status for row in measured.results} == {"measured"}
    shutil.copytree(folder, tmp_path / "moved")
    (tmp_path / "moved" / tasks[0].name).write_bytes(tasks[1].read_bytes())
    with pytest.raises(CheckpointError, match="is not the task that"):
        bisect(tmp_path / "moved" / "out" / artifact.name)
    (tmp_path / "moved" / tasks[0].name).unlink()
    with pytest.raises(CheckpointError, match=r"pets\.safetensors does not exist: it is a task that"):
        bisect(tmp_path / "moved" / "out" / artifact.name)
