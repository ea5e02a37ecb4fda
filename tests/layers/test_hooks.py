"""Forward hooks: called in order with what the modules read and write, and gone when their block ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import REPOSITORY
from torch import Tensor, nn

from mobilevit_sdk.layers.hooks import forward_hooks

PERMANENT = {"quantization/simulation.py"}  # the hooks are part of the copy that `simulate` returns


def _hooks_of(model: nn.Module) -> int:
    return sum(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in model.modules())


def test_hooks_see_and_change_inputs_and_outputs_in_the_order_given() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    seen: list[str] = []
    x = torch.ones(1, 2)
    with forward_hooks(
        before=[
            (model[1], lambda layer, given: seen.append("before")),
            (model[1], lambda layer, given: (0 * given[0],)),
        ],
        after=[(model[1], lambda layer, given, output: output + 3), (model, lambda *_: seen.append("after"))],
    ):
        assert torch.equal(model(x), torch.full((1, 2), 3.0))
    assert seen == ["before", "after"]
    assert not torch.equal(model(x), torch.full((1, 2), 3.0))


def test_hooks_are_removed_when_the_network_fails() -> None:
    model = nn.Linear(2, 2)

    def fail(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        raise ValueError("a hook that fails")

    with pytest.raises(ValueError, match="a hook that fails"), forward_hooks(before=[(model, fail)]):
        model(torch.ones(1, 2))
    assert _hooks_of(model) == 0


def test_hooks_are_removed_when_a_later_one_cannot_be_registered() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(AttributeError), forward_hooks(after=[(model, lambda *_: None), (None, lambda *_: None)]):  # type: ignore[list-item]
        pytest.fail("the block was entered")
    assert _hooks_of(model) == 0


def test_nothing_else_registers_forward_hooks() -> None:
    package = REPOSITORY / "mobilevit_sdk"
    found = {
        str(Path(path).relative_to(package))
        for path in package.rglob("*.py")
        if "register_forward_" in path.read_text() and path.name != "hooks.py"
    }
    assert found == PERMANENT
