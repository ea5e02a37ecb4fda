"""Make the reference tensors of MobileViT v1 from the releases' own code: run it, then look at what changed.

    python tests/golden/make_mobilevit.py

It needs packages that the project does not: timm 1.0.31 and transformers 5.23.0 (`pip install --no-deps timm
transformers tokenizers regex torchvision==0.28.0`, for torch 2.13). torchvision comes along because both import it; its
wheel does not load beside a CPU build of torch until the operators that it misses are declared, as `main` does.

Weights are not stored: `weights` makes them from the names of the tensors, for this script and for the tests.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

FOLDER = Path(__file__).parent
LOGITS = FOLDER / "mobilevit_xxs_logits.safetensors"  # "<release>/<height>x<width>": [2, 1000]
NAMES = FOLDER / "mobilevit_names.json"  # release -> name of a tensor -> its shape in each of VARIANTS
VARIANTS = ("mobilevit_xxs", "mobilevit_xs", "mobilevit_s")
SIZES = ((64, 64), (80, 96))  # at 80x96 the last two stages are 5x6 and 3x3, no multiples of the patch

# What transformers' conversion script sets for each variant: transformer widths, stage widths, expansion.
_TRANSFORMERS = {
    "mobilevit_xxs": ([64, 80, 96], [16, 16, 24, 48, 64, 80, 320], 2.0),
    "mobilevit_xs": ([96, 120, 144], [16, 32, 48, 64, 80, 96, 384], 4.0),
    "mobilevit_s": ([144, 192, 240], [16, 32, 64, 96, 128, 160, 640], 4.0),
}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that depend on names and shapes alone, with no gain, bias or statistic at its neutral value."""
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    draw = _generator(name)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        values = draw.uniform(0.5, 1.5, shape)
    elif len(shape) > 1:
        values = draw.standard_normal(shape) * 1.4 / np.sqrt(np.prod(shape[1:]))
    else:
        values = draw.standard_normal(shape) * 0.2
    return torch.from_numpy(values.astype(np.float32))


def images(size: tuple[int, int]) -> Tensor:
    """Two images in [0, 1]: [2, 3, H, W]."""
    return torch.from_numpy(_generator(f"images {size}").uniform(0, 1, (2, 3, *size)).astype(np.float32))


def _generator(name: str) -> np.random.RandomState:
    """RandomState, because NumPy promises that its numbers never change."""
    return np.random.RandomState(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little"))


def _networks(variant: str) -> dict[str, Any]:
    import timm
    from transformers import MobileViTConfig, MobileViTForImageClassification

    hidden_sizes, neck_hidden_sizes, expand_ratio = _TRANSFORMERS[variant]
    config = MobileViTConfig(
        hidden_sizes=hidden_sizes, neck_hidden_sizes=neck_hidden_sizes, expand_ratio=expand_ratio, num_labels=1000
    )
    return {"timm": timm.create_model(variant), "transformers": MobileViTForImageClassification(config)}


def main() -> None:
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.manual_seed(0)
    names: dict[str, dict[str, list[list[int]]]] = {"timm": {}, "transformers": {}}
    for variant in VARIANTS:
        for release, network in _networks(variant).items():
            for name, tensor in network.state_dict().items():
                names[release].setdefault(name, []).append(list(tensor.shape))
    rows = ",\n".join(
        f'"{release}": {{\n' + ",\n".join(f'  "{name}": {json.dumps(shapes)}' for name, shapes in found.items()) + "\n}"
        for release, found in names.items()
    )
    NAMES.write_text("{" + rows + "}\n")

    logits = {}
    for release, network in _networks("mobilevit_xxs").items():
        network.load_state_dict(weights({name: shapes[0] for name, shapes in names[release].items()}))
        network.eval()
        for size in SIZES:
            with torch.inference_mode():
                answer = network(images(size))
            answer = answer if release == "timm" else answer.logits
            logits[f"{release}/{size[0]}x{size[1]}"] = answer.clone()
    LOGITS.write_bytes(safetensors.torch.save(logits))


if __name__ == "__main__":
    main()
