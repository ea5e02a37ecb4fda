"""benchmarks/re_attention.py: its measures, and a run of almost no size."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import re_attention
import small_vit
import torch
from helpers import randomize
from labeled_images import pictures, write_parquet
from re_attention_page import Run, paired
from torch.testing import assert_close

from mobilevit_sdk.layers import Attention

pytestmark = pytest.mark.usefixtures("one_thread")


def test_similarity_compares_what_a_token_gives_not_what_it_takes() -> None:
    one = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).expand(3, 2, 2, 2)  # both queries look at the first key
    other = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).expand(3, 2, 2, 2)
    assert re_attention.similarity([one + 1e-3, one + 1e-3]) == [pytest.approx(1.0)]
    columns = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).expand(3, 2, 2, 2)
    assert re_attention.similarity([columns, columns.flip(2), other]) == [0.0, pytest.approx(0.5**0.5)]
    assert re_attention.similarity([one, other]) == [pytest.approx(0.5)]  # the same by rows would be 0.71


@pytest.mark.parametrize("factor", [None, 0.5])
def test_maps_are_those_that_weigh_the_values(factor: float | None) -> None:
    layer = randomize(Attention(12, 3, re_attention=factor), 0).eval()
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    _, (maps,) = re_attention.maps_of(layer, x)
    values = layer.qkv(x)[..., 24:].unflatten(2, (3, 4)).transpose(1, 2)
    assert_close(layer.proj((maps @ values).transpose(1, 2).flatten(2)), layer(x))


def test_a_tie_is_a_tie() -> None:
    assert small_vit.verdict([0.62, 0.63], [0.60, 0.605], 5000) == "better"
    assert small_vit.verdict([0.60, 0.605], [0.62, 0.63], 5000) == "worse"
    assert small_vit.verdict([0.62, 0.59], [0.60, 0.60], 5000) == "a tie"  # the seeds disagree
    assert small_vit.verdict([0.66, 0.61], [0.60, 0.60], 5000) == "a tie"  # the seeds differ by more
    assert small_vit.verdict([0.62, 0.63], [0.60, 0.605], 500) == "a tie"  # chance on so few images


def test_a_run_ends_in_a_page_and_is_not_repeated(tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "a.parquet", pictures(30))
    sizes = [
        "--images=16",
        "--validation=5",
        "--epochs=1",
        "--depths=3",
        "--seeds=1",
        "--dim=8",
        "--heads=2",
        "--patch=16",
    ]
    arguments = [
        f"--train-data={data}",
        f"--test-data={data}",
        f"--out={tmp_path / 'out'}",
        f"--page={tmp_path / 'p.md'}",
    ]
    re_attention.main([*arguments, *sizes])
    text = (tmp_path / "p.md").read_text()
    assert "(dim 8, 2 heads, patches of 16 pixels, 5 tokens), trained from nothing on 16 images" in text
    assert "| 3 | re-attention | " in text
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")

    record = tmp_path / "out" / "plain-3-0.json"
    run = msgspec.json.decode(record.read_bytes(), type=Run)
    assert run.trained.softmax == run.trained.used
    assert run.trained.row_sum == pytest.approx(1)
    record.write_bytes(msgspec.json.encode(msgspec.structs.replace(run, top1=0.987)))
    re_attention.main([*arguments, *sizes])
    assert "98.7%" in (tmp_path / "p.md").read_text()

    alone = msgspec.structs.replace(run, depth=7)
    assert 7 not in paired([alone])  # nothing to compare with
