"""Make the reference tensors of ViT and DeiT from the code of timm and transformers: run it, see what changed.

    cd tests/support; python -m golden.make_vit

It needs what `make.py` needs. It writes, beside itself, `vit.safetensors` and `vit.json`. A case is a network of 192
channels with 1000 classes, with the weights of `vit_weights`, under the names of a release:

- `<case>`: logits [2, 1000] of `images((224, 224), 2)`, computed in float64 and stored in float32;
- `<case>/<height>x<width>`: those of the first image at another size, the positions interpolated by the release: timm
  for a grid that shrinks, transformers for one that grows.

`vit.json`: case -> name -> shape. Where transformers keeps other names in memory than in files, `-memory` has those.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from golden.weights import images, weights
from torch import Tensor, nn

FOLDER = Path(__file__).parent
ANSWERS, NAMES = FOLDER / "vit.safetensors", FOLDER / "vit.json"
SHRUNK, GROWN = (160, 192), (256, 288)


def vit_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """`weights`, with tokens and positions as large as what they are added to."""
    made = weights(shapes)
    for name, shape in shapes.items():
        if "token" in name or "pos" in name:
            made[name] = made[name] * float(0.3 / 1.4 * np.sqrt(np.prod(shape[1:])))
    return made


def _networks() -> dict[str, nn.Module]:
    import timm
    import transformers as hf

    sizes: dict[str, Any] = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768, "num_labels": 1000}
    third = {"no_embed_class": True, "init_values": 1e-6}
    return {
        "timm-vit": timm.create_model("vit_tiny_patch16_224"),
        "timm-distilled": timm.create_model("deit_tiny_distilled_patch16_224"),
        "timm-deit3": timm.create_model("vit_tiny_patch16_224", **third),
        "transformers-vit": hf.ViTForImageClassification(hf.ViTConfig(**sizes)),
        "transformers-deit": hf.DeiTForImageClassification(hf.DeiTConfig(**sizes)),
        "transformers-distilled": hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**sizes)),
    }


def _in_files(name: str) -> str:
    """What transformers 5 calls a tensor in files, from its name in memory."""
    for new, old in (
        (".layers.", ".encoder.layer."),
        (".attention.q_proj.", ".attention.attention.query."),
        (".attention.k_proj.", ".attention.attention.key."),
        (".attention.v_proj.", ".attention.attention.value."),
        (".attention.o_proj.", ".attention.output.dense."),
        (".mlp.fc1.", ".intermediate.dense."),
        (".mlp.fc2.", ".output.dense."),
    ):
        name = name.replace(new, old)
    return name


def _logits(network: nn.Module, pixels: Tensor, **options: Any) -> Tensor:
    with torch.no_grad():
        answer = network.double().eval()(pixels.double(), **options)
    return getattr(answer, "logits", answer).float()


def main() -> None:
    """Write both files anew."""
    from timm.layers import resample_abs_pos_embed

    answers: dict[str, Tensor] = {}
    names: dict[str, dict[str, tuple[int, ...]]] = {}
    for case, network in _networks().items():
        memory = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        is_timm = case.startswith("timm")
        names[case] = memory if is_timm else {_in_files(name): shape for name, shape in memory.items()}
        made = vit_weights(names[case])  # by the names in files
        network.load_state_dict({name: made[name if is_timm else _in_files(name)] for name in memory})
        if not is_timm:
            names[f"{case}-memory"] = memory
        answers[case] = _logits(network, images((224, 224), 2))
        if case == "timm-vit":
            import timm

            small = timm.create_model("vit_tiny_patch16_224", img_size=SHRUNK)
            grid = [side // 16 for side in SHRUNK]
            small.load_state_dict(made | {"pos_embed": resample_abs_pos_embed(made["pos_embed"], grid)})
            answers[f"{case}/{SHRUNK[0]}x{SHRUNK[1]}"] = _logits(small, images(SHRUNK, 1))
        if case == "transformers-distilled":
            grown = _logits(network, images(GROWN, 1), interpolate_pos_encoding=True)
            answers[f"{case}/{GROWN[0]}x{GROWN[1]}"] = grown
    ANSWERS.write_bytes(safetensors.torch.save(answers))
    NAMES.write_text(json.dumps(names, indent=0, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
