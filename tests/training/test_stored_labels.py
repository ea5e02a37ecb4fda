"""Stored labels: those of a live teacher, whoever wrote them and however often they were killed, and their students."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import REPOSITORY, randomize, tiny_spec
from killed_labeling import EPOCHS, RECIPE, make_labels, teacher
from labeled_images import pictures, write_parquet

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import open_dataset, split_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.progress import silent
from mobilevit_sdk.recipe import LABELS_RECIPE, Distillation, Recipe
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import augment as augmentation
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.tasks.draws import Draws
from mobilevit_sdk.training import StoredLabels, Trainer, check_labels, labels, open_labels
from mobilevit_sdk.training.distillation import make_teacher
from mobilevit_sdk.training.feeds import BatchFeed, make_feed
from mobilevit_sdk.training.labels import LabelFeed, labeled_feed
from mobilevit_sdk.training.schedule import epoch_seeds

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
IMAGES = 22
QUICK = msgspec.structs.replace(LABELS_RECIPE, epochs=2, batch_size=8, learning_rate=5e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(IMAGES))


@pytest.fixture(scope="module")
def stored(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs of the three most likely of five classes, read only."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("stored") / "labels"
    assert make_labels(data, out).complete
    return out


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _trainer(data: Path, out: Path, recipe: Recipe = QUICK, size: int = 40, **options: object) -> Trainer:
    spec = tiny_spec(image_size=size)
    dataset = open_dataset(data, labeled=True)
    model = randomize(build_model(spec), 0)
    return Trainer(model, spec, recipe, dataset, dataset, out, device=CPU, **options)  # type: ignore[arg-type]


def _weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([weights.detach().flatten() for weights in trainer.model.parameters()])


def _feed(found: StoredLabels, data: Path, spec: ModelSpec | None = None) -> LabelFeed:
    spec = spec or tiny_spec(image_size=40)
    dataset = open_dataset(data, labeled=True)
    feed = labeled_feed(found, task_of(spec), spec, found.recipe_for(QUICK), torch.nn.Identity(), dataset, CPU, silent)
    assert isinstance(feed, LabelFeed)
    return feed


def test_with_all_classes_they_are_a_live_teacher_on_the_same_images_bit_for_bit(data: Path, tmp_path: Path) -> None:
    found = make_labels(data, tmp_path / "labels", top_k=5).labels
    spec, rows = tiny_spec(image_size=40), torch.tensor([20, 3, 11, 4, 0])
    unmixed = msgspec.structs.replace(RECIPE, mix_probability=0.0)
    live = make_feed(task_of(spec), spec, unmixed, torch.nn.Identity(), open_dataset(data, labeled=True), CPU, silent)
    assert isinstance(live, BatchFeed)
    sees, feed = make_teacher(teacher(), spec, CPU), _feed(found, data)
    for epoch in range(EPOCHS):
        seeds = feed.seeds(epoch, rows)
        assert torch.equal(seeds, epoch_seeds(unmixed, epoch, rows))
        ((images, chosen),) = feed.batches([rows.tolist()])
        mine = feed.prepare(images, chosen, 40, Draws(seeds, torch.Generator()))
        theirs = live.prepare(images, chosen, 40, Draws(seeds, torch.Generator()))
        assert torch.equal(mine.x, theirs.x)
        assert theirs.images is not None
        answers = sees.scores(theirs.images).softmax(1)
        assert answers.max() > 0.5  # a teacher that knows nothing would prove nothing
        torch.testing.assert_close(mine.targets, answers, atol=1e-5, rtol=2**-10)


def test_a_student_of_stored_labels_is_that_of_the_live_teacher(data: Path, tmp_path: Path) -> None:
    """With weight 1 and temperature 1 the losses differ by the teacher's entropy, which no gradient sees."""
    found = make_labels(data, tmp_path / "labels", top_k=5, epochs=1).labels
    recipe = found.recipe_for(msgspec.structs.replace(QUICK, epochs=1, seed=RECIPE.seed))
    distills = msgspec.structs.replace(recipe, distillation=Distillation(temperature=1.0, weight=1.0))
    of_labels = _trainer(data, tmp_path / "a", recipe, labels=found)
    live = _trainer(data, tmp_path / "b", distills, teacher=teacher())
    start = _weights(of_labels)
    for trainer in (of_labels, live):
        trainer.run()
    assert (_weights(of_labels) - _weights(live)).norm() < (_weights(of_labels) - start).norm() / 10
    header = load_checkpoint(tmp_path / "a" / "model.safetensors").spec.provenance["stored_labels"]
    assert header["sha256"] == found.sha256
    assert header["teacher"]["source"] == "teacher7.safetensors"


def test_labels_of_a_killed_process_are_those_of_one_that_was_not(data: Path, stored: Path, tmp_path: Path) -> None:
    """An epoch is 6 batches in parts of 8, 8 and 6 images; what the 9th batch belongs to is made again."""
    script = REPOSITORY / "tests" / "support" / "killed_labeling.py"
    arguments = [sys.executable, script, data, tmp_path / "labels", "9"]
    killed = subprocess.run(arguments, capture_output=True, text=True, timeout=1800, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert _content(tmp_path / "labels") != _content(stored)
    left = make_labels(data, tmp_path / "labels")
    assert left.complete
    assert left.written == EPOCHS * IMAGES - IMAGES - 8
    assert _content(tmp_path / "labels") == _content(stored)


def test_several_processes_write_what_one_writes(data: Path, stored: Path, tmp_path: Path) -> None:
    done = [make_labels(data, tmp_path / "labels", process=(number, 4)) for number in (2, 0, 3, 1)]
    assert [each.complete for each in done] == [False, False, False, True]
    assert sum(each.written for each in done) == EPOCHS * IMAGES
    assert _content(tmp_path / "labels") == _content(stored)


def test_more_epochs_are_added_to_those_that_are_there(data: Path, stored: Path, tmp_path: Path) -> None:
    first = make_labels(data, tmp_path / "labels", epochs=1)
    assert first.written == IMAGES
    more = make_labels(data, tmp_path / "labels")
    assert (more.written, more.complete) == ((EPOCHS - 1) * IMAGES, True)
    assert more.labels.sha256 == first.labels.sha256
    assert _content(tmp_path / "labels") == _content(stored)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": teacher(8)}, "differ in teacher;"),
        ({"top_k": 2}, "differ in top k;"),
        ({"image_size": 48}, "differ in image size"),
        ({"recipe": msgspec.structs.replace(RECIPE, augment_ops=1, seed=6)}, "differ in seed, augmentation;"),
    ],
)
def test_a_folder_of_other_labels_is_refused(data: Path, stored: Path, changes: dict, message: str) -> None:
    with pytest.raises(RequestError, match=f"{message}.*give another `out`"):
        make_labels(data, stored, **changes)


def test_a_check_finds_another_teacher_and_another_augmentation(
    data: Path, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = check_labels(stored, teacher(), data, samples=24, device="cpu")
    assert same.passed
    assert same.same_teacher
    assert same.mean_difference < 3e-4  # the rounding of float16
    assert same.differing_indices == 0
    other = check_labels(stored, teacher(8), data, samples=24, device="cpu")
    assert not other.passed
    assert not other.same_teacher
    assert other.differing_indices > 0.1
    monkeypatch.setattr(augmentation, "ERASED_RATIO", 0.9)
    monkeypatch.setattr(augmentation, "FACTOR", 0.5)
    changed = check_labels(stored, teacher(), data, samples=24, device="cpu")
    assert not changed.passed
    assert changed.same_teacher
    monkeypatch.setattr(labels, "AUGMENTATION_VERSION", 2)
    with pytest.raises(RequestError, match="made with version 1 of the augmentation, and this SDK has version 2"):
        open_labels(stored)


def test_students_of_any_size_batch_and_part_of_the_images_learn_from_them(
    data: Path, stored: Path, tmp_path: Path
) -> None:
    found = open_labels(stored)
    recipe = msgspec.structs.replace(QUICK, batch_size=5, epochs=1, precision="bf16")  # which of the two is measured
    small = _trainer(data, tmp_path / "small", recipe, 32, labels=found)
    result = small.run()
    assert result is not None
    assert result.loss < 10  # of random weights
    whole = open_dataset(data, labeled=True)
    kept, _ = split_dataset(whole, 0.3)
    numbers = found.numbers(kept)
    assert [whole.names[number] for number in numbers] == list(kept.names)


def test_labels_are_found_by_class_names_in_the_order_of_the_student(data: Path, stored: Path) -> None:
    spec = tiny_spec(image_size=40)
    assert spec.labels is not None
    turned = msgspec.structs.replace(spec, labels=spec.labels[::-1])
    rows, found = torch.arange(4), open_labels(stored)
    targets = []
    for each in (spec, turned):
        feed = _feed(found, data, each)
        ((images, chosen),) = feed.batches([rows.tolist()])
        targets.append(feed.prepare(images, chosen, 40, Draws(feed.seeds(0, rows), torch.Generator())).targets)
    assert torch.equal(targets[0], targets[1].flip(1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mix_probability": 0.3}, "not mixed: set mix_probability to 0"),
        ({"repeats": 3}, "set repeats to 1"),
        ({"distillation": Distillation()}, "leave out distillation"),
        ({"epochs": 4}, "has labels of 3 epochs, and the training has 4"),
    ],
)
def test_recipes_that_do_not_go_with_them_are_refused(
    data: Path, stored: Path, tmp_path: Path, fields: dict, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        _trainer(data, tmp_path, msgspec.structs.replace(QUICK, **fields), labels=open_labels(stored))


def test_what_is_not_theirs_is_refused(data: Path, stored: Path, tmp_path: Path) -> None:
    found = open_labels(stored)
    with pytest.raises(RequestError, match="take the place of a teacher"):
        _trainer(data, tmp_path / "a", labels=found, teacher=teacher())
    other = write_parquet(tmp_path / "b.parquet", pictures(IMAGES, seed=1))
    with pytest.raises(RequestError, match=r"b.parquet is another image than"):
        _trainer(other, tmp_path / "b", labels=found)
    more = write_parquet(tmp_path / "c.parquet", pictures(IMAGES + 3))
    with pytest.raises(RequestError, match=r"has no labels of 3 of 25 images of .*c.parquet, such as"):
        _trainer(more, tmp_path / "c", labels=found)
    names = msgspec.structs.replace(tiny_spec(image_size=40), labels=tuple("abcde"))
    with pytest.raises(RequestError, match="labels other classes than mobilevit_xxs has"):
        found.class_order(names)
    wide = tiny_spec(image_size=40)
    preprocessing = msgspec.structs.replace(wide.preprocessing, image_size=(40, 64))
    with pytest.raises(RequestError, match="inputs of 40x64 have other proportions"):
        _feed(found, data, msgspec.structs.replace(wide, preprocessing=preprocessing))
    copy = shutil.copytree(stored, tmp_path / "copy")
    (copy / "logits_top3_epoch1" / "rank2-keys.txt").unlink()
    with pytest.raises(RequestError, match="not complete: epoch 1 lacks 1 part of 3"):
        _trainer(data, tmp_path / "d", labels=open_labels(copy)).run()
    first = copy / "logits_top3_epoch0" / "rank0-keys.txt"
    first.write_bytes(first.read_bytes().replace(b"1", b"2"))
    with pytest.raises(RequestError, match=r"names of images in .* are not those of the manifest"):
        _trainer(data, tmp_path / "e", labels=open_labels(copy))


def test_two_images_of_one_name_are_refused(data: Path, tmp_path: Path) -> None:
    twice = open_dataset(data, labeled=True).at([0, 1, 1])
    with pytest.raises(RequestError, match="the name row 1 twice, and labels are found by names"):
        make_labels(twice, tmp_path / "labels")  # type: ignore[arg-type]


def test_reused_labels_begin_with_the_first_epoch_again(data: Path, stored: Path) -> None:
    feed, rows = _feed(open_labels(stored, reuse=True), data), torch.arange(6)
    seeds = [feed.seeds(epoch, rows) for epoch in range(5)]
    assert torch.equal(seeds[3], seeds[0])
    assert torch.equal(seeds[4], seeds[1])
    assert not torch.equal(seeds[0], seeds[1])


def test_a_training_knows_its_labels_again(data: Path, stored: Path, tmp_path: Path) -> None:
    _trainer(data, tmp_path / "out", labels=open_labels(stored)).run()
    assert _trainer(data, tmp_path / "out", labels=open_labels(stored)).resumed
    other = make_labels(data, tmp_path / "labels", teacher=teacher(8)).labels
    with pytest.raises(RequestError, match="its teacher differs, or its stored labels do"):
        _trainer(data, tmp_path / "out", labels=other)


def test_command_line_labels_shows_checks_and_trains(data: Path, tmp_path: Path) -> None:
    def run(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(main, [*map(str, arguments), "--threads", "1"])
        assert result.exit_code == code, result.stderr
        return result.stdout if "--json" in arguments else result.stdout + result.stderr

    for seed, name in ((7, "teacher"), (8, "other")):
        checkpoint = teacher(seed)
        save_checkpoint(checkpoint.model, checkpoint.spec, tmp_path / f"{name}.safetensors")
    out, known, other = (tmp_path / name for name in ("labels", "teacher.safetensors", "other.safetensors"))
    label = ["label", "--data", data, "--teacher"]
    made = json.loads(run(*label, known, "--epochs", 2, "--out", out, "--json"))
    assert (made["bytes"], made["written"]) == (2 * IMAGES * (4 + 4 * 5), 2 * IMAGES)
    assert "all there" in run(*label, known, "--epochs", 2, "--out", out)
    assert f"top 5, 2 epochs of {IMAGES} labels, by mobilevit_xxs" in run("label", "--show", out)
    assert "as stored; " in run(*label, known, "--check", out, "--samples", 8)
    assert "DIFFERENT; " in run(*label, other, "--check", out, "--samples", 8, code=1)
    train = ["train", "--checkpoint", other, "--data", data, "--test-data", data, "--labels", out, "--batch-size", 8]
    said = run(*train, "--out", tmp_path / "a", "--epochs", 2)
    assert "the 5 stored labels of mobilevit_xxs" in said
    assert "give --reuse-labels" in run(*train, "--out", tmp_path / "b", "--epochs", 3, code=2)
    run(*train, "--out", tmp_path / "b", "--epochs", 3, "--reuse-labels", "--json")
    assert "leave out --teacher" in run(*train, "--out", tmp_path / "c", "--teacher", known, code=2)
    assert np.isfinite(json.loads((tmp_path / "b" / "metrics.jsonl").read_text().splitlines()[-1])["loss"])
