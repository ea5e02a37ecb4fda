"""Networks loaded from the layouts of public releases answer, and train, as the releases' own code does."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from golden.make import EVAL_SIZES, RESIZED, TRAIN_SIZE, VARIANTS, digest
from golden.reference import (
    ALL,
    MADE,
    Size,
    Weights,
    attention_bias_idxs,
    digests,
    eval_logits,
    maker,
    release_weights,
    resized_logits,
    save_as_published,
    shapes,
    statistics_after,
    train_logits,
    untrained_weights,
)
from golden.weights import images
from torch import Tensor

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.key_maps import all_key_maps
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import CheckpointError

SIZES = [
    pytest.param(family, release, size, id=f"{family}-{release}-{size[0]}x{size[1]}")
    for family, release in ALL
    for size in EVAL_SIZES[family, maker(family, release)]
]


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory):
    """(family, release) -> its smallest variant, read from a file with the release's names."""

    @cache
    def load(family: str, release: str) -> Checkpoint:
        folder = tmp_path_factory.mktemp("golden")
        return load_checkpoint(save_as_published(folder, release, release_weights(family, release)))

    return load


def difference(answer: Tensor, expected: Tensor) -> float:
    """The largest, as a share of the largest value expected."""
    assert answer.shape == expected.shape
    return ((answer - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("family", "release", "size"), SIZES)
@torch.inference_mode()
def test_loaded_network_answers_as_the_release_does(loaded, family: str, release: str, size: Size) -> None:
    checkpoint, expected, pixels = loaded(family, release), eval_logits(family, release, size), images(size)
    assert (checkpoint.layout, checkpoint.spec.model) == (release, VARIANTS[family][0])
    assert (checkpoint.spec.family, checkpoint.spec.num_classes) == (family, 1000)
    assert difference(checkpoint.model(pixels), expected) <= 1e-5
    assert difference(checkpoint.model(pixels[1:2]), expected[1:2]) <= 1e-5


@pytest.mark.parametrize(("family", "release"), MADE)
@torch.no_grad()
def test_training_mode_is_the_release_s(tmp_path: Path, family: str, release: str) -> None:
    """One pass moves the running statistics as in the release. In float64: small batches blow rounding up."""
    checkpoint = load_checkpoint(save_as_published(tmp_path, release, untrained_weights(family, release)))
    network = checkpoint.model.double().train()
    logits = network(images(TRAIN_SIZE[family]).double())
    assert difference(logits, train_logits(family, release)) <= 1e-6

    layout = next(each for each in all_key_maps() if (each.family, each.release) == (family, release))
    state = network.state_dict()
    ours = {layout.prefix + theirs[0]: name for name, theirs in layout.sources(network.config, state).items()}
    before = untrained_weights(family, release)
    parts = statistics_after(family, release).split([len(before[name]) for name in moved(before)])
    for name, expected in zip(moved(before), parts, strict=True):
        assert difference(state[ours[name]], expected) <= 1e-6, name
        assert difference(before[name], expected) > 1e-3, f"{name} would not tell"
    counts = {tensor.item() for name, tensor in state.items() if name.endswith("num_batches_tracked")}
    assert counts == {8}


def moved(tensors: Weights) -> list[str]:
    return [name for name in tensors if name.endswith(("running_mean", "running_var"))]


@pytest.mark.parametrize("family", RESIZED)
@torch.inference_mode()
def test_position_biases_follow_the_image_size_as_in_cream(tmp_path: Path, family: str) -> None:
    size = RESIZED[family]
    path = save_as_published(tmp_path, "timm", release_weights(family, "timm"))
    checkpoint = load_checkpoint(path, image_size=size[0], windows="scale")
    assert checkpoint.spec.preprocessing.image_size == size
    assert difference(checkpoint.model(images(size, 1)), resized_logits(family, size)) <= 1e-5


@pytest.mark.parametrize("family", ["tiny_vit", "efficientvit"])
def test_indices_of_position_biases_may_be_stored_but_must_be_right(tmp_path: Path, family: str) -> None:
    tensors = release_weights(family, "cream")
    indices = attention_bias_idxs(tensors)
    checkpoint = load_checkpoint(save_as_published(tmp_path, "cream", tensors | indices))
    assert (checkpoint.layout, checkpoint.spec.model) == ("cream", VARIANTS[family][0])
    name, index = list(indices.items())[-1]
    for wrong in (index.flip(1), index[:-1]):
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(save_as_published(tmp_path, "cream", tensors | indices | {name: wrong}))


@torch.inference_mode()
def test_distilled_efficientvit_answers_with_the_mean_of_its_heads(tmp_path: Path) -> None:
    size = (224, 224)
    tensors = release_weights("efficientvit", "cream")
    second = {name: tensor.flip(0) for name, tensor in tensors.items() if name.startswith("head.")}
    other = load_checkpoint(save_as_published(tmp_path, "cream", tensors | second)).model(images(size))
    expected = (eval_logits("efficientvit", "cream", size) + other) / 2
    assert difference(other, expected) > 0.1

    distilled = tensors | {name.replace("head.", "head_dist."): tensor for name, tensor in second.items()}
    checkpoint = load_checkpoint(save_as_published(tmp_path, "cream", distilled))
    assert (checkpoint.layout, checkpoint.spec.model) == ("cream", "efficientvit_m0")
    assert difference(checkpoint.model(images(size)), expected) <= 1e-5


@pytest.mark.parametrize(("family", "release"), MADE)
def test_stored_names_are_those_of_the_digest(family: str, release: str) -> None:
    assert digest(shapes(family, release)) == digests(release)[VARIANTS[family][0]]["sha256"]


@pytest.mark.parametrize(("family", "release", "size"), [each for each in SIZES if each.values[:2] in MADE])
def test_images_tell_in_the_stored_answers(family: str, release: str, size: Size) -> None:
    """Else a network that sees nothing but its biases would pass."""
    expected = eval_logits(family, release, size)
    assert ((expected - expected.mean(0)).std() / expected.std()).item() > 0.05
