"""Our own checkpoints, and what happens to files that are broken, foreign or hostile."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch
from helpers import refused, tiny_model, tiny_spec
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.load import load_checkpoint, load_weights
from mobilevit_sdk.errors import CheckpointError, RequestError


def own_file(path: Path, **changes: Any) -> Path:
    """A file with the tiny network and a header in which fields of the spec, or of its config, are changed."""
    model, spec = tiny_model()
    header = msgspec.to_builtins(spec)
    config = changes.pop("config", {})
    header |= changes
    if isinstance(config, dict):
        header["config"] |= config
        header["config"] = {name: value for name, value in header["config"].items() if value is not None}
    else:
        header["config"] = config
    safetensors.torch.save_file(model.state_dict(), path, {"mobilevit_sdk": json.dumps(header)})
    return path


def test_own_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    """Widths that no registered model has, labels, preprocessing and every tensor: all from the file alone."""
    model, spec = tiny_model(seed=3)
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(model, spec, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.spec == spec
    assert (checkpoint.layout, checkpoint.source) == ("own", str(path))
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not checkpoint.model.training
    loaded = checkpoint.model.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


def test_weights_of_a_known_network_come_back_whole(tmp_path: Path) -> None:
    model, spec = tiny_model(seed=3)
    save_checkpoint(model, spec, tmp_path / "tiny.safetensors")
    network = load_weights(tmp_path / "tiny.safetensors", spec)
    assert not network.training
    loaded = network.state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


def test_weights_that_do_not_fit_a_known_network_are_refused(tmp_path: Path) -> None:
    model, spec = tiny_model()
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(model, spec, path)
    wide = msgspec.structs.replace(spec, config=spec.config | {"final_channels": 25})
    with pytest.raises(CheckpointError, match=r"final_conv.conv.weight \[24, 12, 1, 1\] instead of \[25, 12, 1, 1\]"):
        load_weights(path, wide)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file({**weights, "more": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"does not hold the weights of this mobilevit_xxs: 1 left over \(more\)"):
        load_weights(path, spec)
    del weights["head.bias"], weights["head.weight"]  # a backbone does not fit either
    safetensors.torch.save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"2 missing \(head.weight, head.bias\)"):
        load_weights(path, spec)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="truncated, 4 of"):
        load_weights(path, spec)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_saved_checkpoint_is_as_readable_as_any_file(tmp_path: Path) -> None:
    model, spec = tiny_model()
    save_checkpoint(model, spec, tmp_path / "tiny.safetensors")
    (tmp_path / "any").touch()
    assert (tmp_path / "tiny.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_own_checkpoint_is_held_to_what_the_caller_insists_on(tmp_path: Path) -> None:
    path = own_file(tmp_path / "tiny.safetensors")
    assert load_checkpoint(path, model="mobilevit_xxs", num_classes=5).spec == tiny_spec()
    assert refused(path, num_classes=7) == "has a head for 5 classes (head.weight), but 7 were asked for"
    assert refused(path, model="mobilevit_s") == "holds mobilevit_xxs, not mobilevit_s"
    with pytest.raises(RequestError, match="unknown model 'mobilevit_xxl'; did you mean"):
        load_checkpoint(path, model="mobilevit_xxl")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"color": "red"}, "unknown field `color`"),
        ({"labels": ["cat", "dog"]}, "2 labels for a head with 5 classes"),
        ({"preprocessing": {}}, "missing required field `image_size`"),
        ({"family": "resnet"}, "unknown family 'resnet'"),
        ({"config": 3}, "Expected `object`, got `int` - at `$.config`"),
        ({"config": {"stages": None}}, "missing required field `stages`"),
        ({"config": {"num_classes": None}}, "its config lacks 'num_classes'"),
        ({"config": {"num_classes": "5"}, "labels": None}, "Expected `int`, got `str` - at `$.num_classes`"),
        ({"config": {"num_classes": 0}, "labels": None}, "its head has no classes"),
        ({"config": {"num_heads": 0}}, "Expected `int` >= 1 - at `$.num_heads`"),
        ({"config": {"num_heads": 3}}, "dim 16 is not divisible by num_heads 3"),
        ({"config": {"norm_eps": -1.0}}, "Expected `float` > 0.0 - at `$.norm_eps`"),
        ({"config": {"dropout": 7.0}}, "dropout probability has to be between 0 and 1"),
        ({"config": {"stem_channels": 10**15}}, "Expected `int` <= 16384 - at `$.stem_channels`"),
        ({"config": {"num_classes": 10**18}, "labels": None}, "overflow"),
    ],
)
def test_malformed_spec_says_what_is_wrong(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    message = refused(own_file(tmp_path / "spec.safetensors", **change))
    assert message.startswith("has a header that describes no network of ours: ")
    assert complaint in message


def test_spec_of_another_network_is_not_filled_with_these_weights(tmp_path: Path) -> None:
    message = refused(own_file(tmp_path / "wide.safetensors", config={"final_channels": 25}))
    assert "final_conv.conv.weight [24, 12, 1, 1] instead of [25, 12, 1, 1]" in message


class Payload:
    """A pickle that leaves a file behind when it is executed."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], Any], tuple[Path]]:
        return os.mkdir, (os.fspath(self.marker),)  # type: ignore[return-value]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_pickle_that_would_run_code_is_not_run(tmp_path: Path, legacy: bool, nested: bool) -> None:
    payload = Payload(tmp_path / "executed")
    content = {"model": {"stem.conv.weight": payload}} if nested else payload
    path = tmp_path / "evil.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert "holds more than tensors (posix.mkdir), and loading it could run code" in refused(path)
    path.write_bytes(pickle.dumps(content))
    refused(path)
    assert not payload.marker.exists()


def test_whole_pickled_models_and_programs_are_refused(tmp_path: Path) -> None:
    model, _ = tiny_model()
    path = tmp_path / "model.pth"
    torch.save(model, path)
    assert "holds a pickled mobilevit_sdk.models.mobilevit.MobileViT" in refused(path)
    assert "torch.save(torch.load(FILE, weights_only=False)" in refused(path)
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(2)), path)
    assert "is a TorchScript archive" in refused(path)


@pytest.fixture(scope="module")
def xxs() -> dict[str, torch.Tensor]:
    return create_model("mobilevit_xxs", num_classes=4).state_dict()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_float_become_float32(tmp_path: Path, xxs: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    path = tmp_path / "weights.pth"
    torch.save({name: tensor.to(dtype) for name, tensor in xxs.items()}, path)
    checkpoint = load_checkpoint(path)
    model, kind = checkpoint.model, str(dtype).removeprefix("torch.")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.get_parameter("head.weight"), xxs["head.weight"].to(dtype).float())
    counts = sum(name.endswith("num_batches_tracked") for name in xxs)
    assert checkpoint.notes == (f"{len(xxs) - counts} {kind} tensors became float32",)


def test_values_too_large_for_float32_are_refused(tmp_path: Path, xxs: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**xxs, "head.bias": torch.full((4,), 1e300, dtype=torch.float64)}, path)
    assert "holds NaN or infinity in head.bias" in refused(path)


def test_values_whose_sum_alone_overflows_are_fine(tmp_path: Path, xxs: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**xxs, "head.weight": torch.full((4, 320), 3e38)}, path)
    assert load_checkpoint(path).model.get_parameter("head.weight").max() == 3e38


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@given(data=st.data())
def test_one_value_that_is_not_finite_is_found_wherever_it_is(
    tmp_path: Path, xxs: dict[str, torch.Tensor], suffix: str, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([name for name, tensor in xxs.items() if tensor.is_floating_point()]))
    broken = xxs[name].clone()
    broken.view(-1)[data.draw(st.integers(0, broken.numel() - 1))] = data.draw(
        st.sampled_from([float("nan"), float("inf"), -float("inf")])
    )
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else safetensors.torch.save_file)({**xxs, name: broken}, path)
    assert refused(path) == f"holds NaN or infinity in {name}; its training diverged or it is damaged"


def test_missing_step_counts_are_said(tmp_path: Path, xxs: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({name: t for name, t in xxs.items() if not name.endswith("num_batches_tracked")}, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.notes == ("BatchNorm's step counts (num_batches_tracked) are not in the file and start at 0",)
    assert checkpoint.model.get_buffer("stem.norm.num_batches_tracked") == 0


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".legacy"])
def test_weights_live_on_without_their_file(tmp_path: Path, xxs: dict[str, torch.Tensor], suffix: str) -> None:
    """Nothing stays mapped: were it so, the process would die here. And no tensor holds memory of its neighbors."""
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(xxs, path)
    else:
        torch.save(xxs, path, _use_new_zipfile_serialization=suffix == ".pth")
    checkpoint = load_checkpoint(path)
    os.truncate(path, 0)
    loaded = checkpoint.model.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in xxs.items())
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in loaded.values())
    with pytest.raises(CheckpointError, match="changed after it was opened"):
        checkpoint.sha256  # noqa: B018


def test_a_network_without_weights_is_filled_to_the_last_tensor(tmp_path: Path, xxs: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save(xxs, path)
    model = load_checkpoint(path).model
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    assert all(
        isinstance(parameter, torch.nn.Parameter) and parameter.requires_grad for parameter in model.parameters()
    )
    model.train()(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (torch.ones(4, 320, dtype=torch.int8), "holds int8 weights (head.weight), expected floating point"),
        (torch.full((4, 320), float("nan")), "holds NaN or infinity in head.weight"),
        (torch.ones(4, 320).to_sparse(), "holds no plain tensors in head.weight"),
        (torch.ones(4, 320, device="meta"), "holds no plain tensors in head.weight"),
        (torch.tensor(1.0), "head.weight [] instead of [1000, 320]"),
        (3.5, "1 missing (head.weight)"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(
    tmp_path: Path, xxs: dict[str, torch.Tensor], value: Any, complaint: str
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**xxs, "head.weight": value}, path)
    assert complaint in refused(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([1, 2], "holds a list, expected a state_dict"),
        ({}, "holds an empty dictionary"),
        ({"epoch": 3, "optimizer": {}}, "holds a dictionary with epoch, optimizer, expected a state_dict"),
        ({7: torch.ones(1)}, "holds a dictionary with 7, expected a state_dict"),
        ({"a\n\x1b[31mb": torch.ones(1)}, "it holds 1 tensors (a [31mb)"),
    ],
)
def test_anything_but_a_state_dict_is_described(tmp_path: Path, content: Any, complaint: str) -> None:
    path = tmp_path / "content.pth"
    torch.save(content, path)
    assert complaint in refused(path)
