"""`hf-hub:` checkpoints: what is read beside the weights, and what is said when there is none. No network is used."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch
from golden.reference import release_weights
from huggingface_hub import errors

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import CheckpointError

SOURCE = "hf-hub:someone/mobilevit"
TIMM = {
    "input_size": [3, 224, 224],
    "interpolation": "bilinear",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "license": "mit",
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a repository on a hub that is this folder."""
    remote, cache = tmp_path / "remote", tmp_path / "cache"
    remote.mkdir()
    cache.mkdir()

    def download(repository: str, name: str) -> str:
        assert repository == "someone/mobilevit"
        if not (remote / name).exists():
            raise errors.EntryNotFoundError(f"404: {name}")
        return str(shutil.copy(remote / name, cache / name))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return remote


def publish(folder: Path, release: str, num_classes: int = 3, **files: Any) -> None:
    """Put weights of a release into `folder`, and JSON files beside them."""
    tensors = release_weights("mobilevit", release)
    head = {"timm": "head.fc", "transformers": "classifier"}[release]
    tensors |= {f"{head}.weight": torch.ones(num_classes, 320), f"{head}.bias": torch.ones(num_classes)}
    if release == "timm":
        safetensors.torch.save_file(tensors, folder / "model.safetensors")
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_timm_repository_brings_labels_and_preprocessing(repository: Path) -> None:
    publish(repository, "timm", config={"label_names": ["a", "b", "c"], "pretrained_cfg": TIMM})
    checkpoint = load_checkpoint(SOURCE)
    preprocessing = checkpoint.spec.preprocessing
    assert (checkpoint.layout, checkpoint.source) == ("timm", SOURCE)
    assert checkpoint.spec.labels == ("a", "b", "c")
    assert (preprocessing.image_size, preprocessing.resize_size) == ((224, 224), 256)
    assert (preprocessing.interpolation, preprocessing.channel_order) == ("bilinear", "rgb")
    assert preprocessing.resize_mode == "shorter"
    assert (preprocessing.mean, preprocessing.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert checkpoint.spec.provenance["source"] == SOURCE


@pytest.mark.parametrize(
    "processor",
    [
        {"crop_size": 192, "size": 224, "do_flip_channels": False, "resample": 3, "do_center_crop": True},
        {
            "crop_size": {"height": 192, "width": 192},
            "size": {"shortest_edge": 224},
            "do_flip_channel_order": False,
            "resample": 3,
            "do_center_crop": None,
        },
    ],
)
def test_transformers_repository_brings_labels_and_preprocessing(repository: Path, processor: dict[str, Any]) -> None:
    labels = {"2": "c", "0": "a", "1": "b"}
    publish(repository, "transformers", config={"id2label": labels}, preprocessor_config=processor)
    checkpoint = load_checkpoint(SOURCE)
    preprocessing = checkpoint.spec.preprocessing
    assert checkpoint.layout == "transformers"
    assert checkpoint.spec.labels == ("a", "b", "c")
    assert (preprocessing.image_size, preprocessing.resize_size) == ((192, 192), 224)
    assert (preprocessing.interpolation, preprocessing.channel_order) == ("bicubic", "rgb")


def test_repository_without_descriptions_has_the_release_s_preprocessing(repository: Path) -> None:
    publish(repository, "transformers")
    spec = load_checkpoint(SOURCE).spec
    assert spec.labels is None
    assert (spec.preprocessing.resize_size, spec.preprocessing.channel_order) == (288, "bgr")


def test_placeholder_labels_are_no_labels(repository: Path) -> None:
    publish(repository, "transformers", config={"id2label": {str(i): f"LABEL_{i}" for i in range(3)}})
    assert load_checkpoint(SOURCE).spec.labels is None


@pytest.mark.parametrize(("owner", "license"), [("timm", "Apple sample code (ml-cvnets)"), ("someone", None)])
def test_the_license_is_known_of_a_release_s_own_repository_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, license: str | None
) -> None:
    publish(tmp_path, "timm", config={"pretrained_cfg": TIMM})

    def download(repository: str, name: str) -> str:
        if not (tmp_path / name).exists():
            raise errors.EntryNotFoundError(f"404: {name}")
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for source in (f"hf-hub:{owner}/mobilevit", tmp_path / "model.safetensors"):
        checkpoint = load_checkpoint(source)
        expected = license if isinstance(source, str) else None
        assert checkpoint.spec.license == expected
        said = "config.json names the license mit, perhaps of what the weights began from: not taken"
        assert (said in checkpoint.notes) == (expected is None)
        assert load_checkpoint(source, license="CC0-1.0").spec.license == "CC0-1.0"


def test_squashed_images_of_timm_are_squashed(repository: Path) -> None:
    """As its TinyViT for 512 pixels takes them."""
    squashed = TIMM | {"input_size": [3, 512, 512], "crop_mode": "squash", "crop_pct": 1.0}
    publish(repository, "timm", config={"pretrained_cfg": squashed})
    preprocessing = load_checkpoint(SOURCE).spec.preprocessing
    assert (preprocessing.resize_mode, preprocessing.image_size) == ("squash", (512, 512))


def test_folder_downloaded_from_the_hub_is_read_like_the_hub(tmp_path: Path) -> None:
    publish(tmp_path, "timm", config={"label_names": ["a", "b", "c"], "pretrained_cfg": TIMM})
    assert load_checkpoint(tmp_path / "model.safetensors").spec.labels == ("a", "b", "c")
    (tmp_path / "model.safetensors").rename(tmp_path / "mine.safetensors")
    assert load_checkpoint(tmp_path / "mine.safetensors").spec.labels is None


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"config": {"id2label": {"0": "a", "1": "b"}}}, "id2label names 2 classes, but the head has 3"),
        ({"config": {"id2label": {"1": "a", "2": "b", "3": "c"}}}, "does not number its classes from 0 without gaps"),
        ({"config": {"id2label": {"zero": "a"}}}, "config.json: id2label is"),
        ({"config": {"id2label": {"0": 1}}}, "config.json: id2label is"),
        ({"config": [1, 2]}, "cannot read config.json"),
        ({"config": {"pretrained_cfg": TIMM | {"crop_mode": "border"}}}, "crop_mode 'border', expected 'center' or"),
        ({"config": {"pretrained_cfg": TIMM | {"crop_mode": "squash"}}}, "'squash' with crop_pct 0.875, expected 1"),
        ({"config": {"pretrained_cfg": TIMM | {"interpolation": "lanczos"}}}, "lanczos"),
        ({"config": {"pretrained_cfg": TIMM | {"crop_pct": 0.0}}}, "crop_pct is 0.0"),
        ({"config": {"pretrained_cfg": TIMM | {"std": [0, 1, 1]}}}, "std must be positive"),
        ({"preprocessor_config": {"do_center_crop": False}}, "do_center_crop is false"),
        ({"preprocessor_config": {"size": {"longest_edge": 256}}}, "size has longest_edge, expected shortest_edge or"),
        ({"preprocessor_config": {"resample": 1}}, "resample is lanczos"),
        ({"preprocessor_config": {"crop_size": -1}}, "crop_size is -1"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(repository: Path, files: dict[str, Any], complaint: str) -> None:
    publish(repository, "transformers", **files)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(SOURCE)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith(SOURCE)
    assert "\n" not in str(caught.value)


def test_sharded_repository_is_joined(repository: Path) -> None:
    tensors = release_weights("mobilevit", "transformers")
    shards = {"a.safetensors": "mobilevit.", "b.safetensors": "classifier."}
    held = {shard: {n: t for n, t in tensors.items() if n.startswith(root)} for shard, root in shards.items()}
    for shard, part in held.items():
        safetensors.torch.save_file(part, repository / shard)
    weight_map = {name: shard for shard, part in held.items() for name in part}
    (repository / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = load_checkpoint(SOURCE)
    assert "joined 2 files that model.safetensors.index.json names" in checkpoint.notes
    assert torch.equal(checkpoint.model.get_parameter("head.weight"), tensors["classifier.weight"])
    (repository / "b.safetensors").rename(repository / "c.safetensors")
    (repository.parent / "cache" / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"of which 1 are not beside it: b\.safetensors"):
        load_checkpoint(SOURCE)


def test_repository_without_weights_says_what_was_looked_for(repository: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors or pytorch_model\.bin"):
        load_checkpoint(SOURCE)


@pytest.mark.parametrize(
    ("make_error", "complaint"),
    [
        (lambda: _http(errors.RepositoryNotFoundError), "does not exist on the hub, or is private"),
        (lambda: _http(errors.GatedRepoError), "is gated: accept its terms"),
        (lambda: errors.LocalEntryNotFoundError("no route\nand more"), r"hub cannot be reached \(no route\)"),
        (lambda: ConnectionError("Name or service not known"), r"cannot be reached \(Name or service not known\)"),
        (lambda: OSError(errno.ENOSPC, "No space left on device"), "cannot be kept in the local cache: No space left"),
        (lambda: errors.HFValidationError("bad"), "names no repository; write hf-hub:organization/name"),
    ],
)
def test_hub_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, make_error: Callable[[], Exception], complaint: str
) -> None:
    def download(repository: str, name: str) -> str:
        raise make_error()

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_checkpoint(SOURCE)
    assert "\n" not in str(caught.value)


def _http(kind: type[Exception]) -> Exception:
    """An error of the hub without the HTTP response that its constructor asks for."""
    error = kind.__new__(kind)
    error.args = ("401 Client Error",)
    return error


def test_offline_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With huggingface_hub's own code: nothing in its cache, and no network allowed."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="not in the local cache and the hub cannot be reached") as caught:
        load_checkpoint("hf-hub:apple/mobilevit-xx-small")
    assert "\n" not in str(caught.value)


def test_malformed_repository_name_is_said_in_one_line() -> None:
    with pytest.raises(CheckpointError, match="names no repository; write hf-hub:organization/name"):
        load_checkpoint("hf-hub:not a/repo/name")
