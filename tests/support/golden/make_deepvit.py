"""Make the reference logits of DeepViT from the authors' code: run it with a folder that holds that code.

    cd tests/support; python -m golden.make_deepvit FOLDER

FOLDER is a clone of https://github.com/zhoudaquan/dvit_repo at 1ccb152; what it imports of old versions of timm is
handed to it. It writes `deepvit.json`, beside itself: names and shapes of `deepvit_S` with 10 classes, and its logits
[2, 10] of `images((224, 224), 2)` with `deepvit_weights`, computed in float64.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import torch
from golden.make_vit import vit_weights
from golden.weights import images
from torch import Tensor

STORED = Path(__file__).parent / "deepvit.json"


def deepvit_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Those of ViT, with statistics of mixed maps that fit: a map has the mean 1 / N and hardly varies."""
    made = vit_weights(shapes)
    for name in made:
        if name.endswith("var_norm.running_var"):
            made[name] = made[name] * 2e-3
        elif name.endswith("var_norm.running_mean"):
            made[name] = made[name] * 0.2
    return made


def main(folder: str) -> None:
    """Write the file anew."""
    import timm.layers

    parts = {name: getattr(timm.layers, name) for name in ("DropPath", "to_2tuple", "trunc_normal_")}
    for name, content in {
        "helpers": {"load_pretrained": None},
        "layers": parts,
        "resnet": {"resnet26d": None, "resnet50d": None},
        "registry": {"register_model": lambda function: function},
    }.items():
        module = types.ModuleType(f"timm.models.{name}")
        module.__dict__.update(content)
        sys.modules[module.__name__] = module
    sys.path.insert(0, folder)
    from models.deep_vision_transformer import deepvit_S

    network = deepvit_S(num_classes=10)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict(deepvit_weights(shapes))
    with torch.no_grad():
        logits = network.double().eval()(images((224, 224), 2).double())
    STORED.write_text(json.dumps({"logits": logits.tolist(), "shapes": shapes}, indent=0, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
