"""Checkpoints of NaFlex-ViT answer here as in timm, at any aspect ratio; `golden/make_navit.py` made the answers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from golden import make_navit
from golden.make_navit import ANSWERS, CASES, NAMES, SIZES
from golden.make_vit import vit_weights
from golden.weights import images
from torch import Tensor

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.export import export_checkpoint
from mobilevit_sdk.checkpoints.identify import match_release
from mobilevit_sdk.checkpoints.key_maps import all_key_maps, tensor_shapes
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.registry import model_entry, model_spec


@cache
def released(case: str) -> dict[str, Tensor]:
    return vit_weights({name: tuple(shape) for name, shape in json.loads(NAMES.read_text())[case].items()})


@cache
def answers() -> dict[str, Tensor]:
    return safetensors.torch.load_file(ANSWERS)


def save(folder: Path, tensors: dict[str, Tensor], **files: object) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"


def model_name(case: str) -> str:
    return f"naflexvit_base_patch16_{case}"


@torch.inference_mode()
def differences(checkpoint: Checkpoint, expected: dict[tuple[int, int], Tensor]) -> list[float]:
    """At each size, of the largest score."""
    return [
        ((checkpoint.model(images(size, 1)) - answer).abs().max() / answer.abs().max()).item()
        for size, answer in expected.items()
    ]


ASPECT = {"model_args": {"embed_dim": 192, "num_heads": 3, "reg_tokens": 4, "pos_embed_ar_preserving": True}}


def files(case: str) -> dict[str, object]:
    """What says that a network of these widths keeps the aspect ratio, which no weights show."""
    return {"config": ASPECT | {"architecture": "own"}} if case == "par_gap" else {}


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_answers_as_timm_does_at_any_aspect_ratio(tmp_path: Path, case: str) -> None:
    checkpoint = load_checkpoint(save(tmp_path, released(case), **files(case)))
    assert (checkpoint.layout, checkpoint.spec.model) == ("timm", model_name(case))
    assert checkpoint.spec.preprocessing.image_size == (384, 384)
    assert checkpoint.spec.preprocessing.std == (0.5, 0.5, 0.5)
    expected = {size: answers()[f"{case}/{size[0]}x{size[1]}"] for size in SIZES}
    assert max(differences(checkpoint, expected)) <= 1e-5


@pytest.mark.parametrize("case", ["par_gap"])
def test_a_checkpoint_answers_as_timm_itself(tmp_path: Path, case: str) -> None:
    pytest.importorskip("timm", reason="timm is not installed here")
    model = make_navit.network(case)
    model.load_state_dict(released(case))
    checkpoint = load_checkpoint(save(tmp_path, released(case), **files(case)))
    sizes = ((224, 160), (64, 400))
    assert max(differences(checkpoint, {size: make_navit.logits(model, size) for size in sizes})) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_published_networks_answer_as_in_timm(tmp_path: Path, case: str) -> None:
    """At full size, with the file that timm writes beside its weights, which names the variant."""
    timm = pytest.importorskip("timm", reason="timm is not installed here")
    model = timm.create_model(model_name(case), num_classes=20).eval()
    tensors = vit_weights({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    model.load_state_dict(tensors)
    pretrained = {"input_size": [3, 384, 384], "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 1.0}
    config = {"architecture": model_name(case), "num_classes": 20, "num_features": 768, "pretrained_cfg": pretrained}
    path = save(tmp_path, tensors, config=config | {"global_pool": "avg"})
    checkpoint = load_checkpoint(path)
    assert (checkpoint.spec.model, checkpoint.notes) == (model_name(case), ())
    assert checkpoint.spec == load_checkpoint(path, model=model_name(case)).spec
    assert checkpoint.spec.preprocessing.std == (0.25, 0.25, 0.25)
    sizes = ((384, 384), (256, 192))
    assert max(differences(checkpoint, {size: make_navit.logits(model, size) for size in sizes})) <= 1e-5


def test_what_becomes_of_rectangles_is_said_by_a_file_or_a_note(tmp_path: Path) -> None:
    bare = load_checkpoint(save(tmp_path / "bare", released("par_gap")))
    (note,) = [note for note in bare.notes if "par_gap" in note]
    assert bare.spec.config["coordinates"] == "fractional"
    assert f"taken for {model_name('gap')}; `model={model_name('par_gap')}` if not" in note
    stated = load_checkpoint(save(tmp_path / "stated", released("par_gap"), config=ASPECT | {"architecture": "own"}))
    assert (stated.spec.model, stated.spec.config["coordinates"]) == (model_name("par_gap"), "aspect")
    assert not [note for note in stated.notes if "weights do not tell" in note]


@pytest.mark.parametrize("case", CASES)
def test_the_caller_s_variant_is_taken(case: str) -> None:
    """Shapes of the published network alone."""
    config = model_entry(model_name(case)).config
    layout = next(each for each in all_key_maps() if (each.family, each.release) == ("navit", "timm"))
    shapes = tensor_shapes(model_spec(model_name(case)))
    names = layout.sources(config, shapes)
    tensors = {names[name][0]: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    match = match_release(tensors, model_name(case), "file")
    assert match.fits
    assert (match.spec.model, match.spec.config["coordinates"]) == (model_name(case), config.coordinates)
    if case != "parfac_gap":
        assert match_release(tensors, None, "file").spec.model == model_name("gap")


@pytest.mark.parametrize(("key", "value"), [("reg_tokens", 1), ("qk_norm", True), ("pos_embed", "rope")])
def test_an_argument_of_another_network_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    config = {"architecture": "own", "model_args": {key: value}}
    with pytest.raises(CheckpointError, match=key):
        load_checkpoint(save(tmp_path, released("gap"), config=config))


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_goes_back_to_timm_tensor_by_tensor(tmp_path: Path, case: str) -> None:
    checkpoint = load_checkpoint(save(tmp_path, released(case), **files(case)))
    save_checkpoint(checkpoint.model, checkpoint.spec, tmp_path / "own.safetensors")
    own = load_checkpoint(tmp_path / "own.safetensors")
    assert own.spec == checkpoint.spec
    export_checkpoint(own, "timm", tmp_path / "exported.safetensors")
    exported = safetensors.torch.load_file(tmp_path / "exported.safetensors")
    assert exported.keys() == released(case).keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in released(case).items())


def test_a_backbone_is_known_without_its_head(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in released("parfac_gap").items() if not name.startswith("head.")}
    with pytest.raises(CheckpointError, match="backbone"):
        load_checkpoint(save(tmp_path, tensors))
