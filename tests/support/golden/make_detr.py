"""Make the reference tensors of DETR from the code of transformers: run it, see what changed.

    cd tests/support; python -m golden.make_detr

It needs what `make.py` needs. It writes, beside itself, `detr.safetensors` and `detr.json`. The network is a small
DetrForObjectDetection on transformers' own ResNet, with the weights of `detr_weights`, under which queries differ.

- `detr.safetensors`: `logits` [2, 6, 12] and `boxes` [2, 6, 4] of `images(SIZE, 2)`, computed in float64 and stored in
  float32.
- `detr.json`: "memory" -> the name of a tensor in memory -> its shape; "files" -> its name in files -> that in memory.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import safetensors.torch
import torch
from golden.weights import images, weights
from torch import Tensor

FOLDER = Path(__file__).parent
ANSWERS, NAMES = FOLDER / "detr.safetensors", FOLDER / "detr.json"
SIZE = (96, 128)


def detr_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """`weights` under which queries differ: attention looks somewhere, at features that are centered and vary.

    Names are those of any release.
    """
    made = weights(shapes)
    for name, shape in shapes.items():
        if "query_" in name:
            made[name] *= 2 * shape[1] ** 0.5 / 1.4
        elif name.endswith(("q_proj.weight", "k_proj.weight")):
            made[name] *= 2
        elif name.endswith("in_proj_weight"):
            made[name][: 2 * shape[1]] *= 2
        elif name.endswith(("input_proj.weight", "input_projection.weight")):
            made[name] = 3 * (made[name] - made[name].mean(1, keepdim=True))
    return made


def main() -> None:
    """Write both files anew."""
    import transformers as hf

    sizes = {"embedding_size": 8, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 1, 2]}
    config = hf.DetrConfig(
        **{"use_timm_backbone": False, "backbone": None, "d_model": 32, "num_queries": 6, "num_labels": 11},
        **{"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48},
        backbone_config=hf.ResNetConfig(out_features=["stage4"], **sizes),
    )
    network = hf.DetrForObjectDetection(config).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    made = detr_weights(shapes)
    network.load_state_dict(made)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        saved = safetensors.torch.load_file(Path(folder) / "model.safetensors")
    files = {
        name: next(memory for memory, other in made.items() if torch.equal(tensor, other))
        for name, tensor in saved.items()
    }
    with torch.no_grad():
        answer = network.double()(pixel_values=images(SIZE, 2).double())
    answers = {"logits": answer.logits.float(), "boxes": answer.pred_boxes.float()}
    print({name: (tuple(each.shape), float(each.std(1).mean()), float(each.std())) for name, each in answers.items()})
    ANSWERS.write_bytes(safetensors.torch.save(answers))
    text = json.dumps({"memory": shapes, "files": files}, indent=0, separators=(",", ":"))
    NAMES.write_text(text + "\n")


if __name__ == "__main__":
    main()
