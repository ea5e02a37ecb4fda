"""Forms of rank 4 that coreai-torch writes in place of torch's own: the same function, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mobilevit_converters.coreai.convert import to_program
from mobilevit_converters.coreai.file.asset import MAIN, read_asset
from mobilevit_converters.coreai.passes.decompositions import (
    bmm,
    decomposition_table,
    einsum,
    in_parts,
    pixel_unshuffle,
)
from mobilevit_converters.coreai.runtimes.session import Session
from torch import nn

from mobilevit_sdk.deployment import InHalf, deploy
from mobilevit_sdk.parity.metrics import sqnr_db

SIZES = st.integers(1, 5)


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(channels=SIZES, rows=SIZES, columns=SIZES, factor=st.integers(1, 3))
def test_pixel_unshuffle_is_exact(channels, rows, columns, factor):
    x = tensor(1, channels, rows * factor, columns * factor)
    assert torch.equal(pixel_unshuffle(x, factor), F.pixel_unshuffle(x, factor))


@given(channels=SIZES, places=SIZES, shared=SIZES, out=SIZES)
def test_a_product_of_maps_is_exact(channels, places, shared, out):
    x, y = tensor(1, channels, places, shared), tensor(1, shared, places, out, seed=1)
    expected = torch.einsum("nchw,nwhu->nchu", x, y)
    torch.testing.assert_close(einsum("abcd,adce->abce", [x, y]), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("equation", "shapes"), [("ij,jk->ik", ((2, 3), (3, 4))), ("nchw,nwhu->nchu", ((2, 3, 4, 5),))]
)
def test_another_product_is_torch_s(equation, shapes):
    """Another equation, and more images than one."""
    x = tensor(*shapes[0])
    y = tensor(*shapes[-1], seed=1).permute(0, 3, 2, 1) if len(shapes) == 1 else tensor(*shapes[1], seed=1)
    assert torch.equal(einsum(equation, [x, y]), torch.einsum(equation, x, y))


@given(batch=SIZES, rows=SIZES, shared=st.integers(1, 60), out=SIZES)
def test_a_product_in_parts_is_exact(batch, rows, shared, out):
    x, y = tensor(batch, rows, shared), tensor(batch, shared, out, seed=1)
    torch.testing.assert_close(in_parts(x, y), torch.bmm(x, y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "shared", "dtype"), [(4, 1024, torch.float32), (17, 1024, torch.float16), (4, 255, torch.float16)]
)
def test_other_products_stay_whole(rows, shared, dtype):
    """In float32, of many rows, and of short sums."""
    x = torch.zeros(1, rows, shared, dtype=dtype)
    assert bmm(x, x.permute(0, 2, 1)) is NotImplemented


class WeightedMeans(nn.Module):
    """Of all pixels of a map, by four rows of weights."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.weights = nn.Buffer(tensor(1, 4, pixels).abs().softmax(-1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.bmm(self.weights, image.flatten(2).permute(0, 2, 1)).flatten(1)


def test_float16_weighs_a_thousand_pixels_of_a_flat_image(tmp_path):
    """As one sum, one product after the other in float16, they are at 37 dB; in parts at 72."""
    coreai_torch = pytest.importorskip("coreai_torch")
    network = WeightedMeans(1024).half()
    image = torch.full((1, 3, 32, 32), 0.8)
    traced = torch.export.export(InHalf(network).eval(), (image,))
    program = to_program({MAIN: traced.run_decompositions(decomposition_table(coreai_torch))}, ["logits"])
    program.save_asset(tmp_path / "means.aimodel")
    session = Session(read_asset(tmp_path / "means.aimodel"), "means.aimodel")
    (answer,) = session.call(["logits"])(np.full((3, 32, 32), 204, np.uint8))
    assert sqnr_db(network.double()(image.double()).numpy(), answer) > 55


def test_the_form_for_the_neural_engine_stays_in_rank_4(phone_files):
    coreai_torch = pytest.importorskip("coreai_torch")
    checkpoint = phone_files.checkpoint()
    graph: nn.Module = deploy(checkpoint.model, "coreai-ane", checkpoint.spec)
    image = torch.zeros(1, 3, *checkpoint.spec.preprocessing.image_size)
    program = torch.export.export(graph, (image,)).run_decompositions(decomposition_table(coreai_torch))
    ranks = {node.meta["val"].dim() for node in program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)}
    assert max(ranks) == 4
