"""TinyViT: the reference form, its sizes and windows, its releases, and its phone files."""

from __future__ import annotations

import importlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from phone_files import convert_model

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.key_maps.tiny_vit import LAYOUTS
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, deploy
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import PositionBias, StochasticDepth
from mobilevit_sdk.layers.window_transformer import WindowTransformerBlock
from mobilevit_sdk.models.registry import build_model, model_entries, model_entry, model_spec, spec_at_size
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.models.tiny_vit import MBConv, TinyViTConfig
from mobilevit_sdk.parity.metrics import compare
from mobilevit_sdk.spec import ModelSpec, Preprocessing

WHOLE, PADDED = 48, 52  # pixels: whose maps of 6x6 and 3x3 are whole windows; whose maps of 7x7 and 4x4 are none
LAYOUT = {layout.release: layout for layout in LAYOUTS}


def tiny_spec(image_size: int = WHOLE, **options: object) -> ModelSpec:
    """A stage of convolutions and two with attention, in four windows and in one: all the blocks, almost no cost."""
    config = TinyViTConfig(
        **{
            "dims": (8, 16, 24),
            "depths": (1, 1, 1),
            "window_sizes": (3, 3),
            "head_dim": 8,
            "num_classes": 5,
            **options,
        }
    )
    preprocessing = Preprocessing(
        image_size=(image_size, image_size),
        resize_size=image_size,
        mean=(0.4, 0.45, 0.5),
        std=(0.22, 0.23, 0.25),
    )
    return ModelSpec(
        model="tiny_vit_5m_224", family="tiny_vit", config=msgspec.to_builtins(config), preprocessing=preprocessing
    )


def tiny_model(image_size: int = WHOLE, **options: object):
    spec = tiny_spec(image_size, **options)
    return _visible_tables(randomize(build_model(spec), 0)).eval(), spec


@torch.no_grad()
def _visible_tables(model):
    """Tables as large as the scores that they are added to, so that a wrong bias shows."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, PositionBias):
            layer.table.normal_(generator=generator)
    return model


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(
    ("name", "num_classes", "parameters"),
    [
        ("tiny_vit_5m_224", 1000, 5_392_764),
        ("tiny_vit_11m_224", 1000, 10_996_972),
        ("tiny_vit_21m_224", 1000, 21_198_568),
        ("tiny_vit_21m_384", 1000, 21_230_488),
        ("tiny_vit_21m_512", 1000, 21_268_120),
        ("tiny_vit_5m_224", 21841, 12_082_725),
        ("tiny_vit_11m_224", 21841, 20_354_581),
        ("tiny_vit_21m_224", 21841, 33_223_825),
    ],
)
def test_parameter_counts_are_the_published_ones(name, num_classes, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model(name, num_classes=num_classes).parameters()) == parameters


@pytest.mark.parametrize("entry", model_entries("tiny_vit"), ids=lambda entry: entry.name)
def test_the_windows_of_a_variant_are_those_of_its_image(entry):
    height, width = entry.info.preprocessing.image_size
    assert entry.config.native_image_size == height == width
    assert entry.name.endswith(str(height))


@pytest.mark.parametrize("size", [(32, 32), (36, 52), (33, 71)])
def test_any_image_size_gives_scores_that_depend_on_the_image(size):
    model, spec = tiny_model()
    scores = model(noise(3, 3, *size))
    assert scores.shape == (3, spec.num_classes)
    assert (scores[0] - scores[1]).abs().max() > 1e-3


def test_batches_give_what_single_images_give():
    model = tiny_model()[0].double()
    images = noise(3, 3, 36, 60, dtype=torch.float64)
    torch.testing.assert_close(model(images), torch.cat([model(image[None]) for image in images]), rtol=0, atol=1e-12)


def test_gradients_reach_every_parameter():
    model = tiny_model()[0].train()
    model(noise(4, 3, PADDED, WHOLE)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_a_few_steps_overfit_one_batch():
    torch.manual_seed(0)
    model = build_model(tiny_spec()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    images, labels = noise(8, 3, 32, 32), torch.arange(8) % 5
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1
    assert losses[-1] < 0.05


@pytest.mark.parametrize("option", ["mlp_dropout", "stochastic_depth"])
def test_stochastic_options_act_in_training_alone(option):
    model, _ = tiny_model(**{option: 0.4})
    images = noise(8, 3, 32, 32)
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


def test_deeper_blocks_drop_more_up_to_the_probability_of_the_config():
    layers = create_model("tiny_vit_5m_224", stochastic_depth=0.22).modules()
    rates = [layer.p for layer in layers if isinstance(layer, StochasticDepth)]
    assert rates == pytest.approx([0.02 * i for i in range(12)])


def test_mbconv_starts_as_its_activation():
    x = noise(2, 4, 5, 5) - 0.5
    torch.testing.assert_close(MBConv(4, 8, stochastic_depth=0.0)(x), F.gelu(x))


def test_what_pads_a_map_to_whole_windows_is_normalized_and_attended_to():
    """On 4x5 positions with windows of 3, cut and put together by hand."""
    block = _visible_tables(randomize(WindowTransformerBlock(16, 2, 64, 3), 0)).eval()
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


@settings(max_examples=60, deadline=None)
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


def test_a_network_resized_to_its_own_size_is_the_same():
    model, spec = tiny_model()
    assert resize_network(model, spec, WHOLE, WHOLE) == (model, spec)


def test_a_checkpoint_loads_at_another_size_and_keeps_it(tmp_path: Path):
    model, spec = tiny_model()
    save_checkpoint(model, spec, tmp_path / "trained.safetensors")
    loaded = load_checkpoint(tmp_path / "trained.safetensors", image_size=96)
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


@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("size", [(WHOLE, WHOLE), (PADDED, PADDED), (40, 72), (16, 16)])
def test_the_phone_graph_equals_the_reference_in_float64(target, size):
    model, spec = tiny_model()
    model, preprocessing = model.double(), spec.preprocessing.at_size(*size)
    image = noise(1, 3, *size, dtype=torch.float64)
    expected = model(to_model_input(image, preprocessing))
    graph = deploy(model, target, preprocessing=preprocessing)
    torch.testing.assert_close(graph(image), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_no_tensor_of_the_exported_graph_exceeds_rank_4(target):
    model, spec = tiny_model(PADDED)
    graph = deploy(model, target, preprocessing=spec.preprocessing)
    program = torch.export.export(graph, (noise(1, 3, PADDED, PADDED),))
    values = [node.meta["val"] for node in program.graph.nodes if hasattr(node.meta.get("val"), "dim")]
    assert max(value.dim() for value in values) == 4


@pytest.mark.parametrize(
    ("format_name", "precision", "sqnr_db"),
    [("executorch", "fp32", 90), ("tflite", "fp32", 90), ("coreml", "fp32", 90), ("coreml", "fp16", 40)],
)
def test_a_phone_file_answers_as_pytorch_and_runs_whole(format_name, precision, sqnr_db, tmp_path):
    converter = importlib.import_module(f"mobilevit_converters.{format_name}").converter
    if not converter.availability():
        pytest.skip(converter.availability().reason)
    file = convert_model(converter, *tiny_model(PADDED), precision, tmp_path)
    answer = next(runtime for runtime in converter.runtimes if runtime.availability()).load(file.path)
    answers = np.stack([answer(case.as_passed()) for case in file.reference.cases])
    agreement = compare(file.reference.logits, answers)
    assert agreement.sqnr_db.worst >= sqnr_db
    assert agreement.top1_agreement == 1
    found = converter.inspect(file.path)
    assert found.max_rank == 4
    if format_name != "coreml":  # where the device decides
        assert (found.delegates, found.undelegated_ops) == (1, {})
