"""Task files: saved, put beside their network, and refused for any other."""

from __future__ import annotations

import json

import msgspec
import pytest
import safetensors.torch
import torch
from tiny_networks import noise, phone_checkpoint, with_tasks

from mobilevit_sdk import load_checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.features import classifier_of
from mobilevit_sdk.checkpoints.task_file import (
    TASK_KEY,
    TaskHeader,
    add_tasks,
    inspect_task,
    read_task,
    save_task,
    task_sha256,
    weights_sha256,
)
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.spec import MemoryTask

PETS = MemoryTask(name="pets", num_classes=3, cells=2, labels=("cat", "dog", "fish"))
FOOD = MemoryTask(name="food", num_classes=4, cells=0, extends=("pets",))


@pytest.fixture
def files(tmp_path):
    """A base and two tasks on it, and the network with both."""
    base = phone_checkpoint("vit")
    both = with_tasks(base, PETS, FOOD)
    save_checkpoint(base.model, base.spec, tmp_path / "base.safetensors")
    for index, task in enumerate((PETS, FOOD)):
        extended = {name: task_sha256(both.model, 0) for name in task.extends}
        save_task(both.model, index, _header(base, task, extended=extended), tmp_path / f"{task.name}.safetensors")
    return tmp_path, both


def test_a_task_is_refused_beside_another_than_it_extends(files):
    folder, both = files
    with torch.no_grad():
        both.model.tasks[0].token.add_(1e-3)
    save_task(both.model, 0, _header(phone_checkpoint("vit"), PETS), folder / "others.safetensors")
    for pets, message in (("pets", None), ("others", "trained beside another task called 'pets'")):
        tasks = [folder / f"{pets}.safetensors", folder / "food.safetensors"]
        if message is None:
            assert load_checkpoint(folder / "base.safetensors", tasks=tasks).spec.tasks == (PETS, FOOD)
        else:
            with pytest.raises(CheckpointError, match=message):
                load_checkpoint(folder / "base.safetensors", tasks=tasks)


def _header(base, task, **fields):
    known = {
        "task": task,
        "base_model": base.spec.model,
        "base_source": "base.safetensors",
        "base_sha256": weights_sha256(base.model),
        "preprocessing": base.spec.preprocessing,
    }
    return TaskHeader(**{**known, **fields})


def test_tasks_come_back_beside_their_network_bit_for_bit(files):
    folder, both = files
    tasks = [folder / "pets.safetensors", folder / "food.safetensors"]
    loaded = load_checkpoint(folder / "base.safetensors", tasks=tasks)
    image = noise(1, 3, *both.spec.preprocessing.image_size)
    assert loaded.spec.tasks == (PETS, FOOD)
    assert [(output.name, output.classes, output.labels) for output in loaded.spec.outputs[1:]] == [
        ("pets", 3, PETS.labels),
        ("food", 4, None),
    ]
    for one, other in zip(loaded.model(image), both.model(image), strict=True):
        assert torch.equal(one, other)
    alone = load_checkpoint(folder / "base.safetensors", tasks=tasks[:1])
    assert torch.equal(alone.model(image)[1], loaded.model(image)[1])
    one_by_one = add_tasks(alone, tasks[1:])
    assert one_by_one.spec == loaded.spec
    save_checkpoint(loaded.model, loaded.spec, folder / "all.safetensors")
    again = load_checkpoint(folder / "all.safetensors")
    assert again.spec == loaded.spec
    assert torch.equal(again.model(image)[2], loaded.model(image)[2])


def test_each_task_alone_is_a_plain_classifier(files):
    _, both = files
    image = noise(1, 3, *both.spec.preprocessing.image_size)
    for index, name in enumerate((None, "pets", "food")):
        one = classifier_of(both, name)
        assert torch.equal(one.model(image), both.model(image)[index])
        assert len(one.spec.outputs) == 1
    assert classifier_of(both, "pets").spec.labels == PETS.labels
    with pytest.raises(RequestError, match="answers no task called 'dogs'; it has pets, food"):
        classifier_of(both, "dogs")


def test_another_size_of_images_leaves_the_tasks_what_they_are(files):
    folder, both = files
    loaded = load_checkpoint(folder / "base.safetensors", tasks=[folder / "pets.safetensors"], image_size=64)
    assert torch.equal(loaded.model.tasks[0].memory, both.model.tasks[0].memory)
    assert [answer.shape for answer in loaded.model(noise(1, 3, 64, 64))] == [(1, 5), (1, 3)]


def test_a_task_on_other_weights_is_refused(files):
    folder, _ = files
    other = phone_checkpoint("vit")
    with torch.no_grad():
        other.model.norm.weight[0] += 1e-6
    save_checkpoint(other.model, other.spec, folder / "other.safetensors")
    with pytest.raises(
        CheckpointError, match=r"pets.safetensors is a task on .*whose weights are others than those of"
    ):
        load_checkpoint(folder / "other.safetensors", tasks=[folder / "pets.safetensors"])


def test_what_does_not_belong_together_is_refused(files):
    folder, _ = files
    base, pets, food = (folder / f"{name}.safetensors" for name in ("base", "pets", "food"))
    for tasks, message in (
        ([pets, pets], "two tasks called 'pets'"),
        ([food], "extends 'pets', which must stand before it"),
        ([food, pets], "extends 'pets', which must stand before it"),
    ):
        with pytest.raises(RequestError, match=message):
            load_checkpoint(base, tasks=tasks)
    with pytest.raises(CheckpointError, match="is not a task: give a file"):
        load_checkpoint(base, tasks=[base])
    with pytest.raises(CheckpointError, match="is a task on another network: give that one"):
        load_checkpoint(pets)
    with pytest.raises(RequestError, match="features or answers `tasks`, not both"):
        load_checkpoint(base, tasks=[pets], features="pooled")
    mobilevit = phone_checkpoint("mobilevit")
    save_checkpoint(mobilevit.model, mobilevit.spec, folder / "mobilevit.safetensors")
    save_task(
        with_tasks(phone_checkpoint("vit"), PETS).model, 0, _header(mobilevit, PETS), folder / "wrong.safetensors"
    )
    with pytest.raises(RequestError, match="the family mobilevit learn no tasks"):
        load_checkpoint(folder / "mobilevit.safetensors", tasks=[folder / "wrong.safetensors"])


@pytest.mark.parametrize("name", ["logits", "image", "Pets", "two words", "", "../x", "é"])
def test_a_name_that_a_phone_file_could_not_have_is_refused(name, files):
    folder, _ = files
    with pytest.raises(ValueError, match=r"means something else|matching regex"):
        msgspec.convert({"name": name, "num_classes": 2, "cells": 1}, MemoryTask)
    document = json.loads(msgspec.json.encode(read_task(folder / "pets.safetensors").header))
    document["task"]["name"] = name
    _rewrite(folder / "pets.safetensors", header=document)
    with pytest.raises(CheckpointError, match="a header that describes no task"):
        read_task(folder / "pets.safetensors")


def _rewrite(path, *, header=None, edit=lambda tensors: None):
    tensors = safetensors.torch.load_file(path)
    edit(tensors)
    text = json.dumps(header) if header else msgspec.json.encode(read_task(path).header).decode()
    safetensors.torch.save_file(tensors, path, metadata={TASK_KEY: text})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tensors: tensors.pop("token"), "does not hold the tensors of the task in its header"),
        (lambda tensors: tensors.update(more=torch.ones(1)), "does not hold the tensors of the task in its header"),
        (lambda tensors: tensors.update(memory=tensors["memory"][:1].clone()), "does not hold the tensors"),
        (lambda tensors: tensors["memory"].fill_(float("nan")), r"values that are not finite \(memory\)"),
    ],
)
def test_damaged_tensors_are_refused(edit, message, files):
    folder, _ = files
    _rewrite(folder / "pets.safetensors", edit=edit)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder / "base.safetensors", tasks=[folder / "pets.safetensors"])


@pytest.mark.parametrize("change", [{"num_classes": 10**12}, {"cells": -1}, {"cells": 10**6}, {"labels": ["cat"]}])
def test_a_header_of_impossible_sizes_is_refused_before_memory_is_taken(change, files):
    folder, _ = files
    document = json.loads(msgspec.json.encode(read_task(folder / "pets.safetensors").header))
    document["task"] |= change
    _rewrite(folder / "pets.safetensors", header=document)
    with pytest.raises(CheckpointError, match="a header that describes no task"):
        read_task(folder / "pets.safetensors")


def test_a_large_task_that_the_file_does_not_hold_takes_no_memory(files):
    folder, _ = files
    document = json.loads(msgspec.json.encode(read_task(folder / "pets.safetensors").header))
    document["task"] |= {"num_classes": 10**6, "labels": None}
    _rewrite(folder / "pets.safetensors", header=document)
    with pytest.raises(CheckpointError, match="does not hold the tensors of the task in its header"):
        load_checkpoint(folder / "base.safetensors", tasks=[folder / "pets.safetensors"])


def test_images_prepared_otherwise_are_a_note(files):
    folder, both = files
    other = msgspec.structs.replace(both.spec.preprocessing, channel_order="rgb")
    header = _header(phone_checkpoint("vit"), PETS, preprocessing=other)
    save_task(both.model, 0, header, folder / "pets.safetensors")
    loaded = load_checkpoint(folder / "base.safetensors", tasks=[folder / "pets.safetensors"])
    assert any("pets was trained with images prepared otherwise" in note for note in loaded.notes)


def test_inspection_tells_what_a_task_stands_on(files):
    folder, _ = files
    found = inspect_task(folder / "pets.safetensors")
    assert found is not None
    assert (found.header.task, found.header.base_source) == (PETS, "base.safetensors")
    assert found.bytes == (folder / "pets.safetensors").stat().st_size
    assert inspect_task(folder / "base.safetensors") is None
    assert inspect_task(folder / "nothing.safetensors") is None
