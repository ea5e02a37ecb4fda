"""The comparison with timmx: its page is that of its results, and each planted fault changes what a network answers."""

from __future__ import annotations

import msgspec
import pytest
import torch
from helpers import REPOSITORY
from side_by_side_page import OURS, RESULTS, TIMMX, Converted, Planted, Raced, Results
from side_by_side_plant import FAULTS
from side_by_side_words import page_text
from torch import Tensor, nn

CLASSES, PIXELS = 10, 16


class SmallNetwork(nn.Module):
    """Convolutions, attention, a residual, LayerNorm and a head: a place for every fault."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(16)
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = nn.functional.silu(8 * self.stem(image)).flatten(2).transpose(1, 2)
        query, key, value = self.qkv(self.norm(0.02 * x)).chunk(3, dim=-1)
        x = x + self.proj((4 * query @ key.transpose(-2, -1)).softmax(-1) @ value)
        return self.head(x.mean(1))


@pytest.fixture(scope="module")
def exported():
    torch.manual_seed(0)
    image = torch.randn(1, 3, PIXELS, PIXELS)
    return torch.export.export(SmallNetwork().eval(), (image,)), image


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"none"}))
def test_a_planted_fault_changes_the_answer(exported, fault):
    program, image = exported
    healthy = program.module(check_guards=False)
    picture = torch.zeros_like(image) if "black" in fault else image.flip(0, 2) * 1.5
    with torch.no_grad():
        expected = healthy(picture)
        found = FAULTS[fault](copied(program), image)(picture)
    assert found.shape == expected.shape
    assert not torch.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_without_a_fault_the_answer_is_the_same(exported):
    program, image = exported
    with torch.no_grad():
        assert torch.equal(FAULTS["none"](copied(program), image)(image), program.module()(image))


def copied(program):
    """A network whose weights are its own."""
    network = program.module(check_guards=False)
    network.load_state_dict({name: value.clone() for name, value in network.state_dict().items()}, assign=True)
    return network


@pytest.mark.skipif(not RESULTS.exists(), reason="side_by_side.py has not measured yet")
def test_the_page_says_what_its_results_say():
    page = REPOSITORY / "docs" / "measured" / "timmx.md"
    assert page.read_text("utf-8") == page_text(msgspec.json.decode(RESULTS.read_bytes(), type=Results))


def test_the_page_names_who_is_faster_and_who_noticed():
    made = [
        Converted("net", "onnx", "fp32", side, 0, 9.0, seconds, "", 10**6, 120.0)
        for side, seconds in ((OURS, 20.0), (TIMMX, 10.0))
    ]
    planted = [
        Planted(fault, side, code, "", effect)
        for fault, side, code, effect in (
            ("none", OURS, 0, 120.0),
            ("none", TIMMX, 0, 120.0),
            ("stale", OURS, 1, 3.0),
            ("stale", TIMMX, None, None),
            ("small", OURS, 1, 30.0),
            ("small", TIMMX, 0, 30.0),
        )
    ]
    text = page_text(Results(converted=made, raced=[Raced("net", "onnx", "fp32", 2.0, 4.0, 0.5)], planted=planted))
    assert "less CPU time in 1 of 1 cells" in text
    assert "| ONNX fp32 | 1 | 2.00 (2.00 to 2.00) | 1.00 (1.00 to 1.00) | 0.50 (0.50 to 0.50) |" in text
    assert "timmx's exit code tells 0 of the 1 that it can see, this SDK's 2 of 2" in text
    assert "| stale | 3, no file | no command for it | **caught** (1) |" in text
