"""`create_model`: fresh, or with the weights of a file that must hold that model."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch
from golden.reference import release_weights, save_as_published

from mobilevit_sdk.checkpoints import create
from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.errors import CheckpointError, RequestError


@pytest.fixture(scope="module")
def xxs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_as_published(tmp_path_factory.mktemp("timm"), "timm", release_weights("mobilevit", "timm"))


def test_pretrained_weights_are_those_of_the_file(xxs: Path) -> None:
    model = create_model("mobilevit_xxs", pretrained=xxs)
    expected = release_weights("mobilevit", "timm")["head.fc.weight"]
    assert torch.equal(model.get_parameter("head.weight"), expected)
    assert model.training
    assert create_model("mobilevit_xxs").training


def test_options_beside_pretrained_weights_apply(xxs: Path) -> None:
    plain, model = create_model("mobilevit_xxs", xxs), create_model("mobilevit_xxs", xxs, dropout=0.3)
    assert model.config.dropout == 0.3
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.state_dict().items())
    with pytest.raises(RequestError, match=r"do not fit mobilevit_xxs with other stem_channels: .*size mismatch"):
        create_model("mobilevit_xxs", xxs, stem_channels=32)


def test_weights_of_another_model_or_class_count_are_refused(xxs: Path) -> None:
    with pytest.raises(CheckpointError, match="holds mobilevit_xxs, not mobilevit_xs"):
        create_model("mobilevit_xs", xxs)
    with pytest.raises(CheckpointError, match=r"has a head for 1000 classes .*, but 10 were asked for"):
        create_model("mobilevit_xxs", xxs, num_classes=10)
    with pytest.raises(RequestError, match="mobilevit_xxs has no option color"):
        create_model("mobilevit_xxs", xxs, color="red")


def test_backbone_gets_a_head_of_the_classes_asked_for(tmp_path: Path) -> None:
    weights = {n: t for n, t in release_weights("mobilevit", "transformers").items() if not n.startswith("classifier")}
    model = create_model("mobilevit_xxs", save_as_published(tmp_path, "transformers", weights), num_classes=7)
    assert model.get_parameter("head.weight").shape[0] == 7


def test_examples_run() -> None:
    found = doctest.testmod(create, extraglobs={"torch": torch})
    assert (found.failed, found.attempted > 1) == (0, True)
