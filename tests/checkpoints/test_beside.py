"""What stands beside weights is followed, refused by name, or named: every key of transformers' and timm's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from golden.make import FOLDER
from golden.reference import release_weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilevit_sdk.checkpoints.beside import network
from mobilevit_sdk.checkpoints.beside.files import Beside, read_beside
from mobilevit_sdk.checkpoints.beside.keys import plain
from mobilevit_sdk.checkpoints.beside.preprocessing import PROCESSOR_HARMLESS, TIMM_HARMLESS
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.registry import model_spec

CONFIGS: dict[str, dict[str, Any]] = json.loads((FOLDER / "configs.json").read_text())
VARIANTS = [(release, variant) for release, variants in CONFIGS.items() for variant in variants]
SAFE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def real(release: str, variant: str) -> dict[str, dict[str, Any]]:
    """Name of a file -> its content, as the release's own code writes it for a network with 1000 classes."""
    found = CONFIGS[release][variant]
    if release == "timm":
        return {"config": json.loads(json.dumps(found))}
    # A processor made without arguments crops more than it leaves; the published ones resize to 288.
    processor = found["processor"] | {"size": {"shortest_edge": 288}}
    return {"config": dict(found["config"]), "preprocessor_config": processor}


def read(folder: Path, release: str, variant: str, *, name: str = "model.safetensors", **files: Any) -> Beside:
    """What is read of these files beside weights of the variant."""
    for each in folder.glob("*.json"):
        each.unlink()
    for each, content in files.items():
        (folder / f"{each}.json").write_text(json.dumps(content))
    return read_beside(folder / name, "the weights", model_spec(variant), release, classifies=True)


@pytest.mark.parametrize(("release", "variant"), VARIANTS)
def test_what_the_releases_write_is_understood_whole(tmp_path: Path, release: str, variant: str) -> None:
    found = read(tmp_path, release, variant, **real(release, variant))
    assert found.notes == ()
    assert found.config == {}
    assert found.preprocessing_source == ("config.json" if release == "timm" else "preprocessor_config.json")
    if release == "timm":
        stated = CONFIGS["timm"][variant]["pretrained_cfg"]
        assert found.preprocessing.mean == tuple(stated["mean"])
        assert found.preprocessing.image_size == tuple(stated["input_size"][1:])
    else:
        assert found.preprocessing.describe() == "shorter side to 288 (bicubic), center 256x256, BGR"


def other_than(value: Any) -> Any:
    """A value of the same kind that describes another network."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2
    if isinstance(value, list):
        return [*value[:-1], other_than(value[-1])]
    return "other"


TABLES = [
    (release, variant, key)
    for release, variant in VARIANTS
    for family in [model_spec(variant).family]
    for table in (
        (network.TIMM, network.TIMM_SHOWN)
        if release == "timm"
        else (network.SHOWN[family], network.UNSEEN[family], {"num_labels": None})
    )
    for key in table
]


@pytest.mark.parametrize(("release", "variant", "key"), TABLES)
@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint-500.safetensors"])
def test_a_key_that_describes_another_network_is_refused_by_name(
    tmp_path: Path, release: str, variant: str, key: str, name: str
) -> None:
    files = real(release, variant)
    stated = files["config"].get(key)
    files["config"][key] = 999 if key == "num_labels" else other_than(stated)
    try:
        notes = " ".join(read(tmp_path, release, variant, name=name, **files).notes)
    except CheckpointError as error:
        notes = str(error)
    else:
        assert name == "checkpoint-500.safetensors", "weights that are named as published fit what stands beside them"
        assert "not read" in notes
    assert key in notes
    assert plain(files["config"][key]) in notes


ARGUMENTS = [
    (variant, key)
    for variant in CONFIGS["timm"]
    for table in (network.ARGS_SHOWN, network.ARGS_UNSEEN)
    for key in table[model_spec(variant).family]
]
BUILT_WITH = {
    "tiny_vit": {
        "embed_dims": [64, 128, 160, 320],
        "depths": [2, 2, 6, 2],
        "num_heads": [2, 4, 5, 10],
        "window_sizes": [7, 7, 14, 7],
        "mlp_ratio": 4.0,
        "mbconv_expand_ratio": 4.0,
        "local_conv_size": 3,
        "act_layer": "gelu",
    },
    "efficientvit": {
        "embed_dim": [64, 128, 192],
        "depth": [1, 2, 3],
        "num_heads": [4, 4, 4],
        "key_dim": [16, 16, 16],
        "kernels": [5, 5, 5, 5],
        "window_size": [7, 7, 7],
    },
    "mobilevit": {"output_stride": 32, "act_layer": "silu"},
    "mobilevitv2": {"output_stride": 32, "act_layer": "silu"},
}
EACH = {"global_pool": "avg", "in_chans": 3, "features_only": False}


@pytest.mark.parametrize(("variant", "key"), ARGUMENTS)
def test_what_timm_built_a_network_with_must_be_what_the_weights_show(tmp_path: Path, variant: str, key: str) -> None:
    files, arguments = real("timm", variant), EACH | BUILT_WITH[model_spec(variant).family]
    files["config"]["model_args"] = arguments
    assert read(tmp_path, "timm", variant, **files).notes == ()
    files["config"]["model_args"] = arguments | {key: other_than(arguments[key])}
    with pytest.raises(CheckpointError, match=key):
        read(tmp_path, "timm", variant, **files)


@SAFE
@given(st.sampled_from(VARIANTS), st.from_regex(r"[a-z]{3,8}_[a-z]{3,8}x", fullmatch=True), st.integers() | st.text())
def test_any_unknown_key_is_named(tmp_path_factory: Any, variant: tuple[str, str], key: str, value: Any) -> None:
    folder, files = tmp_path_factory.mktemp("beside"), real(*variant)
    for content in (*files.values(), *([files["config"]["pretrained_cfg"]] if variant[0] == "timm" else [])):
        content[key] = value
        (note,) = read(folder, *variant, **files).notes
        assert key in note
        assert "not followed" in note
        del content[key]


@pytest.mark.parametrize(("release", "variant"), VARIANTS)
def test_harmless_keys_are_passed_over(tmp_path: Path, release: str, variant: str) -> None:
    files = real(release, variant)
    free = network.HARMLESS - {"architecture", "pretrained_cfg", "model_type"}
    files["config"] |= dict.fromkeys(free - set(files["config"]), "anything")
    if release == "timm":
        pretrained = files["config"]["pretrained_cfg"]
        pretrained |= dict.fromkeys(TIMM_HARMLESS - {"label_names", *pretrained}, "anything")
        files["config"]["model_args"] |= dict.fromkeys(network.ARGS_HARMLESS, "anything")
    else:
        files["preprocessor_config"] |= dict.fromkeys(PROCESSOR_HARMLESS, "anything")
    assert read(tmp_path, release, variant, **files).notes == ()


def test_an_unknown_argument_of_the_network_is_refused(tmp_path: Path) -> None:
    files = real("timm", "mobilevit_xxs")
    files["config"]["model_args"]["attn_layer"] = "eca"
    with pytest.raises(CheckpointError, match="model_args holds attn_layer"):
        read(tmp_path, "timm", "mobilevit_xxs", **files)


def test_the_number_of_heads_is_followed(tmp_path: Path) -> None:
    files = real("transformers", "mobilevit_xxs")
    files["config"]["num_attention_heads"] = 2
    found = read(tmp_path, "transformers", "mobilevit_xxs", **files)
    assert found.config == {"num_heads": 2}
    assert found.notes == ("attention has 2 heads, as config.json says; mobilevit_xxs has 4",)
    files["config"]["num_attention_heads"] = 5
    with pytest.raises(CheckpointError, match="num_attention_heads is 5: dim 64 is not divisible"):
        read(tmp_path, "transformers", "mobilevit_xxs", **files)


def test_heads_that_a_file_states_reach_the_network(tmp_path: Path) -> None:
    safetensors.torch.save_file(release_weights("mobilevit", "transformers"), tmp_path / "model.safetensors")
    files = real("transformers", "mobilevit_xxs")
    (tmp_path / "config.json").write_text(json.dumps(files["config"] | {"num_attention_heads": 2}))
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.spec.config["num_heads"] == 2
    assert loaded.model.get_submodule("stages.2.1.transformer.0.attention").num_heads == 2


@pytest.mark.parametrize(("release", "variant"), VARIANTS)
def test_weights_of_any_name_take_what_stands_beside_them_where_it_is_of_their_family(
    tmp_path: Path, release: str, variant: str
) -> None:
    files = real(release, variant)
    key = "label_names" if release == "timm" else "id2label"
    files["config"][key] = {str(i): f"class {i}" for i in range(1000)}
    stale = files["config"].pop("label2id", None)
    found = read(tmp_path, release, variant, name="best.pth", **files)
    assert found.labels is not None
    assert found.labels[999] == "class 999"
    assert found.notes == ()
    if stale:
        files["config"]["label2id"] = stale
        (note,) = read(tmp_path, release, variant, name="best.pth", **files).notes
        assert note == "label2id of config.json says otherwise than id2label, which is taken"
    for other in (each for each in VARIANTS if each != (release, variant)):
        left = read(tmp_path, release, variant, name="best.pth", **real(*other))
        if model_spec(other[1]).family != model_spec(variant).family:
            assert left.labels is None
            assert left.preprocessing == model_spec(variant).preprocessing
            assert "was not read: it is of" in left.notes[0]


@pytest.mark.parametrize(
    ("problem", "classes", "taken"),
    [
        ("single_label_classification", 1000, True),
        ("multi_label_classification", 1000, False),
        ("regression", 1000, False),
        ("regression", 1, True),
    ],
)
def test_scores_that_choose_no_class_are_refused(tmp_path: Path, problem: str, classes: int, taken: bool) -> None:
    spec = model_spec("mobilevit_xxs", num_classes=classes)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mobilevit", "problem_type": problem}))
    arguments = (tmp_path / "model.safetensors", "the weights", spec, "transformers")
    if taken:
        assert read_beside(*arguments, classifies=True).notes == ()
        return
    with pytest.raises(CheckpointError, match=f'problem_type is "{problem}", and the network .* "one class to choose"'):
        read_beside(*arguments, classifies=True)


@pytest.mark.parametrize("content", ["{", "[1]", '{"epochs": 3}', "\ufeff{"])
def test_files_of_nobody_knows_what_beside_other_weights_are_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    found = read_beside(tmp_path / "best.pth", "the weights", model_spec("mobilevit_xxs"), "timm", classifies=True)
    assert "config.json" in " ".join(found.notes)
    assert found.preprocessing == model_spec("mobilevit_xxs").preprocessing
