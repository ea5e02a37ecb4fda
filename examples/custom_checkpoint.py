"""Train a network in a loop of your own, then keep it as one safe file that every command takes.

    python examples/custom_checkpoint.py flowers.safetensors
    mobilevit convert flowers.safetensors --out artifacts

The file holds weights, config, preprocessing and labels, so `convert` needs no further options.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F

from mobilevit_sdk import create_model, load_checkpoint, save_checkpoint
from mobilevit_sdk.models.registry import model_spec

LABELS = ("daisy", "rose", "tulip")


def main(out: Path, steps: int = 5) -> None:
    spec = model_spec("mobilevit_xxs", num_classes=len(LABELS))
    spec = msgspec.structs.replace(spec, labels=LABELS, preprocessing=spec.preprocessing.at_size(64, 64))
    model = create_model("mobilevit_xxs", num_classes=len(LABELS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):  # in place of your data: noise, normalized by spec.preprocessing
        images, labels = torch.randn(8, 3, 64, 64), torch.randint(len(LABELS), (8,))
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    save_checkpoint(model, spec, out)
    print(f"{out}: {load_checkpoint(out).spec.labels}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
