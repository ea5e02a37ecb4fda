"""`HubModel`: a network that the hub's own library saves, uploads and loads; and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from stand_in_hub import Hub, standing_in
from tiny_networks import noise, tiny_model

from mobilevit_sdk import HubModel, export_checkpoint, load_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.errors import CheckpointError, MobileViTError, RequestError
from mobilevit_sdk.models.registry import model_spec


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with standing_in(monkeypatch) as running:
        yield running


def tiny(family: str) -> HubModel:
    model, spec = tiny_model(family)
    labels = tuple(f"class {i}" for i in range(spec.num_classes))
    return HubModel(model, msgspec.structs.replace(spec, labels=labels, license="Apache-2.0 (me)"))


@pytest.mark.parametrize("family", ["mobilevit", "vit"])
def test_a_network_comes_back_from_a_folder_bit_for_bit(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    model.save_pretrained(tmp_path / "birds")
    assert {each.name for each in (tmp_path / "birds").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    for again in (HubModel.from_pretrained(tmp_path / "birds"), load_checkpoint(tmp_path / "birds/model.safetensors")):
        assert again.spec == model.spec
        network = again.network if isinstance(again, HubModel) else again.model
        found, expected = network.state_dict(), model.network.state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert not network.training
    images = noise(2, 3, *model.spec.preprocessing.image_size)
    with torch.inference_mode():
        assert torch.equal(HubModel.from_pretrained(tmp_path / "birds")(images), model(images))


def test_a_network_comes_back_from_the_hub_bit_for_bit(server: Hub, tmp_path: Path) -> None:
    model = tiny("mobilevit")
    model.push_to_hub("someone/birds", private=True)
    assert set(server.files) == {"README.md", "config.json", "model.safetensors"}
    card = server.files["README.md"].decode()
    assert "license: apache-2.0" in card
    assert "Image classifier with 5 classes" in card
    assert 'HubModel.from_pretrained("someone/birds")' in card
    again = HubModel.from_pretrained("someone/birds", cache_dir=tmp_path, token="hf_standin")
    assert again.spec == model.spec
    expected = model.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.network.state_dict().items())
    assert server.tokens == {"Bearer hf_standin"}


@pytest.mark.parametrize("status", [403, 500])
def test_what_the_hub_refuses_is_said_in_a_line(server: Hub, status: int) -> None:
    server.status = status
    with pytest.raises(RequestError, match="the hub does not let you write" if status == 403 else "refused") as caught:
        tiny("vit").push_to_hub("someone/birds")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["/model.safetensors", "", "/none"])
def test_what_is_no_folder_with_weights_is_refused_in_a_line(suffix: str, tmp_path: Path) -> None:
    if suffix == "/model.safetensors":
        (tmp_path / "model.safetensors").write_bytes(b"{}")
    refuses(f"{tmp_path}{suffix}", "is no folder with a model.safetensors" if suffix != "/none" else "no repository")


def refuses(source: str | Path, message: str, **options: Any) -> None:
    with pytest.raises(MobileViTError, match=message) as caught:
        HubModel.from_pretrained(source, **options)
    assert isinstance(caught.value, CheckpointError | RequestError)
    assert "\n" not in str(caught.value)


def test_pickles_are_not_read(server: Hub, tmp_path: Path) -> None:
    model = tiny("vit")
    torch.save(model.network.state_dict(), tmp_path / "pytorch_model.bin")
    refuses(tmp_path, "is no folder with a model.safetensors")
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "model.safetensors")
    refuses(tmp_path, "model.safetensors holds no safetensors")
    server.files["pytorch_model.bin"] = (tmp_path / "model.safetensors").read_bytes()
    refuses("someone/birds", "has no model.safetensors", cache_dir=tmp_path / "cache")


def other_family(document: dict[str, Any]) -> None:
    document["mobilevit_sdk"]["family"] = "resnet"


def other_widths(document: dict[str, Any]) -> None:
    document["mobilevit_sdk"]["config"]["stem_channels"] = 9


def enormous(document: dict[str, Any]) -> None:
    document["mobilevit_sdk"]["config"]["final_channels"] = 10**12


def lacking(document: dict[str, Any]) -> None:
    del document["mobilevit_sdk"]["preprocessing"]


def further(document: dict[str, Any]) -> None:
    document["mobilevit_sdk"]["__class__"] = "os.system"


def a_list(document: dict[str, Any]) -> None:
    document["mobilevit_sdk"] = [1]


@pytest.mark.parametrize("header", [True, False], ids=["with a header", "without"])
@pytest.mark.parametrize("change", [other_family, other_widths, enormous, lacking, further, a_list])
def test_a_config_of_another_network_is_refused_in_a_line(change: Any, header: bool, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = tiny("mobilevit")
    model.save_pretrained(tmp_path)
    if not header:
        save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors")
        assert HubModel.from_pretrained(tmp_path).spec == model.spec  # config.json says it
    document = json.loads((tmp_path / "config.json").read_text())
    change(document)
    (tmp_path / "config.json").write_text(json.dumps(document))
    refuses(tmp_path, "network|config|header")


@pytest.mark.parametrize("content", ["[]", "{", '{"a": ' * 10_000, "null", "\x00"])
def test_a_config_that_is_no_object_is_refused_in_a_line(content: str, tmp_path: Path) -> None:
    tiny("vit").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    refuses(tmp_path, "cannot read config.json")


def test_a_header_that_nests_without_end_is_refused_in_a_line(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tiny("vit").save_pretrained(tmp_path)
    header = '{"config": ' + '{"a": ' * 10_000
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors", {"mobilevit_sdk": header})
    refuses(tmp_path, "nested too deeply")


def test_options_of_the_network_are_the_config_s(tmp_path: Path) -> None:
    tiny("vit").save_pretrained(tmp_path)
    refuses(tmp_path, "takes no depth: config.json decides it", depth=3)


@pytest.mark.slow
def test_what_export_writes_loads_too(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(model_spec("mobilevit_xxs"), 0)
    for layout in ("timm", "transformers"):
        export_checkpoint(checkpoint, layout, tmp_path / layout)
        network = HubModel.from_pretrained(tmp_path / layout).network
        images = noise(1, 3, 256, 256)
        flipped = images if checkpoint.spec.preprocessing.channel_order == "rgb" else images.flip(1)
        with torch.inference_mode():
            torch.testing.assert_close(network(flipped), checkpoint.model(images))


def test_importing_the_package_does_not_import_the_hub_s_library() -> None:
    code = "import sys, mobilevit_sdk; assert 'huggingface_hub' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
