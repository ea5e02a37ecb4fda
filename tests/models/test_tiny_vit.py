"""TinyViT: the reference form, its sizes and windows, its releases, and its phone files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import tiny_networks
import torch
import torch.nn.functional as F
from helpers import randomize
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import noise, visible_tables

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.key_maps.tiny_vit import LAYOUTS
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import StochasticDepth
from mobilevit_sdk.layers.window_transformer import WindowTransformerBlock
from mobilevit_sdk.models.registry import build_model, model_entries, model_entry, model_spec, spec_at_size
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.models.tiny_vit import MBConv, TinyViTConfig

tiny_model = partial(tiny_networks.tiny_model, "tiny_vit")
WHOLE, PADDED = 48, 52  # pixels: whose maps of 6x6 and 3x3 are whole windows; whose maps of 7x7 and 4x4 are none
LAYOUT = {layout.release: layout for layout in LAYOUTS}


@pytest.mark.parametrize("entry", model_entries("tiny_vit"), ids=lambda entry: entry.name)
def test_the_windows_of_a_variant_are_those_of_its_image(entry):
    height, width = entry.info.preprocessing.image_size
    assert entry.config.native_image_size == height == width
    assert entry.name.endswith(str(height))


def test_deeper_blocks_drop_more_up_to_the_probability_of_the_config():
    layers = create_model("tiny_vit_5m_224", stochastic_depth=0.22).modules()
    rates = [layer.p for layer in layers if isinstance(layer, StochasticDepth)]
    assert rates == pytest.approx([0.02 * i for i in range(12)])


def test_mbconv_starts_as_its_activation():
    x = noise(2, 4, 5, 5) - 0.5
    torch.testing.assert_close(MBConv(4, 8, stochastic_depth=0.0)(x), F.gelu(x))


def test_what_pads_a_map_to_whole_windows_is_normalized_and_attended_to():
    """On 4x5 positions with windows of 3, cut and put together by hand."""
    block = visible_tables(randomize(WindowTransformerBlock(16, 2, 64, 3), 0)).eval()
    x = noise(1, 4, 5, 16)
    padded = torch.zeros(1, 6, 6, 16)
    padded[:, :4, :5] = x
    attended = torch.zeros(1, 6, 6, 16)
    for top in (0, 3):
        for left in (0, 3):
            window = padded[:, top : top + 3, left : left + 3].reshape(1, 9, 16)
            answer = block.attention(block.norm1(window)).view(1, 3, 3, 16)
            attended[:, top : top + 3, left : left + 3] = answer
    y = x + attended[:, :4, :5]
    y = block.local_conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "windows"),
    [
        ((224, 224), (7, 14, 7)),
        ((256, 256), (8, 16, 8)),
        ((384, 384), (12, 24, 12)),
        ((512, 512), (16, 32, 16)),
        ((640, 384), (12, 24, 12)),
        ((33, 400), (2, 4, 2)),
        ((32, 32), (1, 2, 1)),
    ],
)
def test_windows_grow_with_the_image_as_published(size, windows):
    for name in ("tiny_vit_5m_224", "tiny_vit_21m_512"):
        assert model_entry(name).config.at_image_size(*size).window_sizes == windows


@given(size=st.integers(32, 1024), other=st.integers(32, 1024))
def test_a_config_brought_to_a_size_stays_as_it_is_at_that_size(size, other):
    config = TinyViTConfig(dims=(64, 128, 160, 320)).at_image_size(size, size)
    assert config.at_image_size(size, size) == config
    assert config.at_image_size(other, other).at_image_size(size, size) == config


@pytest.mark.parametrize(
    ("size", "message"), [((224, 31), "smaller than the network's total stride of 32"), ((1056, 1056), "more than 64")]
)
def test_a_size_that_the_network_cannot_take_is_refused(size, message):
    with pytest.raises(RequestError, match=message):
        spec_at_size(model_spec("tiny_vit_5m_224"), *size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_sizes": (7, 14)}, "one entry a stage"),
        ({"depths": (2, 2, 6)}, "one entry a stage"),
        ({"head_dim": 48}, "dim 128 is not divisible by head_dim 48"),
        ({"window_sizes": (7, 14, 65)}, "window_sizes"),
        ({"stochastic_depth": 1.0}, "stochastic depth"),
    ],
)
def test_a_config_that_describes_no_network_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        create_model("tiny_vit_5m_224", **options)


def test_a_resized_network_has_interpolated_tables_and_all_other_weights():
    model, spec = tiny_model()
    resized, resized_spec = resize_network(model, spec, 80, 96)
    assert resized_spec.config["window_sizes"] == [5, 5]
    assert resized_spec.preprocessing.image_size == (80, 96)
    for name, tensor in resized.state_dict().items():
        old = model.get_parameter(name) if name.endswith("table") else model.state_dict()[name]
        if name.endswith("table"):
            heads = old.shape[0]
            old = F.interpolate(old.detach().view(1, heads, 3, 3), (5, 5), mode="bicubic").view(heads, 25)
        assert torch.equal(tensor, old), name
    assert not torch.equal(resized(noise(1, 3, 80, 96)), model(noise(1, 3, 80, 96)))


def test_a_checkpoint_loads_at_another_size_and_keeps_it(tmp_path: Path):
    model, spec = tiny_model()
    save_checkpoint(model, spec, tmp_path / "trained.safetensors")
    loaded = load_checkpoint(tmp_path / "trained.safetensors", image_size=96, windows="scale")
    image = noise(1, 3, 96, 96)
    expected = resize_network(model, spec, 96, 96)[0](image)
    assert torch.equal(loaded.model(image), expected)
    save_checkpoint(loaded.model, loaded.spec, tmp_path / "resized.safetensors")
    again = load_checkpoint(tmp_path / "resized.safetensors")
    assert again.spec.config["window_sizes"] == [6, 6]
    assert torch.equal(again.model(image), expected)


def test_biases_follow_weights_that_are_loaded_in_eval_mode():
    """The official code caches them in `eval()`, and answers with stale ones."""
    model, spec = tiny_model()
    fresh = build_model(spec).eval()
    image = noise(1, 3, WHOLE, WHOLE)
    fresh(image)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(image), model(image))


SIZES = {
    ("cream", 224): "shorter side to 256 (bicubic), center 224x224",
    ("cream", 256): "shorter side to 292 (bicubic), center 256x256",
    ("cream", 384): "squashed to 384x384 (bicubic)",
    ("cream", 512): "squashed to 512x512 (bicubic)",
    ("timm", 224): "shorter side to 235 (bicubic), center 224x224",
    ("timm", 256): "shorter side to 269 (bicubic), center 256x256",
    ("timm", 384): "shorter side to 384 (bicubic), center 384x384",
    ("timm", 512): "squashed to 512x512 (bicubic)",
}


@pytest.mark.parametrize(("release", "size"), SIZES)
def test_the_tables_of_a_file_tell_its_windows_and_so_its_preprocessing(release, size):
    layout, config = LAYOUT[release], model_entry("tiny_vit_5m_224").config.at_image_size(size, size)
    with torch.device("meta"):
        tensors = build_model(model_spec("tiny_vit_5m_224", window_sizes=config.window_sizes)).state_dict()
    sources = layout.sources(config, tensors)
    options = layout.options({theirs: tensors[ours] for ours, (theirs,) in sources.items()})
    assert options == {"window_sizes": config.window_sizes}
    assert layout.preprocessing is not None
    found = layout.preprocessing(model_spec("tiny_vit_5m_224", **options))
    assert found.describe().startswith(f"{SIZES[release, size]}, RGB, mean [0.485, 0.456, 0.406], std [0.229")


@pytest.mark.parametrize("shape", [(4, 48), (4,), (4, 0), (4, 65**2), (4, 7, 7)])
def test_a_table_of_no_square_window_says_nothing(shape):
    tensors = {"stages.1.blocks.0.attn.attention_biases": torch.zeros(shape)}
    assert LAYOUT["timm"].options(tensors) == {}


def test_the_releases_keep_query_key_and_value_of_a_head_together():
    config = TinyViTConfig(dims=(8, 16), depths=(1, 1), window_sizes=(2,), head_dim=8)
    theirs = torch.tensor([[head, part, i] for head in range(2) for part in range(3) for i in range(8)])
    for layout in LAYOUTS:
        (rows,) = layout.rows(config).values()
        ours = theirs[rows]
        assert torch.equal(ours[:, 1], torch.arange(3).repeat_interleave(16))
        assert torch.equal(ours[:, 0], torch.arange(2).repeat_interleave(8).repeat(3))
        assert torch.equal(ours[:, 2], torch.arange(8).repeat(6))
