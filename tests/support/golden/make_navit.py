"""Make the reference tensors of NaFlex-ViT from timm's code: run it, see what changed.

    cd tests/support; python -m golden.make_navit

It writes, beside itself, `navit.safetensors` and `navit.json`. A case is a network of 192 channels with 20 classes and
the weights of `vit_weights`, under timm's names; `<case>/<height>x<width>` are the logits [1, 20] of the first image of
that size, computed in float64 and stored in float32. `navit.json`: case -> name -> shape.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from golden.make_vit import vit_weights
from golden.weights import images
from torch import Tensor

FOLDER = Path(__file__).parent
ANSWERS, NAMES = FOLDER / "navit.safetensors", FOLDER / "navit.json"
CASES = ("gap", "par_gap", "parfac_gap")
# Larger and smaller than the grid that was learned, that grid, upright and lying.
SIZES = ((384, 384), (256, 256), (256, 192), (96, 320))


def network(case: str) -> Any:
    """timm's, with random weights of its own."""
    import timm

    return timm.create_model(f"naflexvit_base_patch16_{case}", embed_dim=192, num_heads=3, num_classes=20).eval()


def logits(model: Any, size: tuple[int, int]) -> Tensor:
    """Of the first image of a size, computed in float64."""
    with torch.no_grad():
        answer: Tensor = model.double()(images(size, 1).double())
    return answer.float()


def main() -> None:
    """Write both files anew."""
    answers: dict[str, Tensor] = {}
    names: dict[str, dict[str, tuple[int, ...]]] = {}
    for case in CASES:
        model = network(case)
        names[case] = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        model.load_state_dict(vit_weights(names[case]))
        answers |= {f"{case}/{size[0]}x{size[1]}": logits(model, size) for size in SIZES}
    ANSWERS.write_bytes(safetensors.torch.save(answers))
    NAMES.write_text(json.dumps(names, indent=0, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
