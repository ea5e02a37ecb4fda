"""Forms of rank 4 that coreai-torch writes in place of torch's own: the same function, exactly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mobilevit_converters.coreai.passes.decompositions import decomposition_table, einsum, pixel_unshuffle
from torch import nn

from mobilevit_sdk.deployment import deploy

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


def test_the_form_for_the_neural_engine_stays_in_rank_4(phone_files):
    coreai_torch = pytest.importorskip("coreai_torch")
    checkpoint = phone_files.checkpoint()
    graph: nn.Module = deploy(checkpoint.model, "coreai-ane", checkpoint.spec)
    image = torch.zeros(1, 3, *checkpoint.spec.preprocessing.image_size)
    program = torch.export.export(graph, (image,)).run_decompositions(decomposition_table(coreai_torch))
    ranks = {node.meta["val"].dim() for node in program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)}
    assert max(ranks) == 4
