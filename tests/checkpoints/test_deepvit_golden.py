"""Checkpoints of DeepViT answer here as in the authors' code; `golden/make_deepvit.py` made the answers."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from golden.make_deepvit import STORED, deepvit_weights
from golden.weights import images

from mobilevit_sdk.checkpoints.load import load_checkpoint


@torch.inference_mode()
def test_a_checkpoint_answers_as_the_authors_code_does(tmp_path: Path) -> None:
    """A stem of convolutions, plain blocks, blocks with re-attention, scaled maps and branches, all in one network."""
    stored = json.loads(STORED.read_text())
    expected = torch.tensor(stored["logits"])
    tensors = deepvit_weights({name: tuple(shape) for name, shape in stored["shapes"].items()})
    torch.save({"state_dict": tensors}, tmp_path / "deepvit_S.pth.tar")
    checkpoint = load_checkpoint(tmp_path / "deepvit_S.pth.tar")
    assert (checkpoint.layout, checkpoint.spec.model, checkpoint.notes) == ("dvit", "deepvit_s", ())
    answer = checkpoint.model(images((224, 224), 2))
    assert (answer - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (expected[0] - expected[1]).abs().max() > 1e-2 * expected.abs().max()  # images tell
