"""Make the reference tensors of the public releases from their own code: run it, then look at what changed.

    cd tests; python -m golden.make

It needs packages that the project does not: timm 1.0.31 and transformers 5.23.0, beside the project's own torch 2.13
(`pip install --no-deps timm==1.0.31 transformers==5.23.0 tokenizers regex torchvision==0.28.0`; Python 3.10 or later).
torchvision comes along because both import it; its wheel does not load beside a CPU build of torch until the operators
that it misses are declared, as `main` does.

It writes, beside itself:

- `<family>.safetensors`: what the smallest variant of the family answers with the weights and images of `weights.py`,
  without dropout or stochastic depth, computed in float64 and stored in float32. Keys, for each release:
  `<release>/train/<height>x<width>`: logits [3, 1000] of three images in training mode, with `weights`;
  `<release>/statistics`: after that one pass, every `running_mean` and `running_var` one after the other, in the order
  of the names in `<family>.json`;
  `<release>/eval/<height>x<width>`: logits [3, 1000] in eval mode, with `settled` weights;
  `<release>/resized/<height>x<width>`: logits [1, 1000] of the first image, after the settled weights were loaded into
  a network with larger windows, the tables of relative positions enlarged as Cream does it: timm's function smooths
  besides (antialias), which in torch also means another cubic kernel.
- `<family>.json`: release -> name -> shape, of that variant, in the order of the release.
- `digests.json`: release -> network -> number of parameters, and SHA-256 of all its names and shapes (`digest`). A
  network is a variant with 1000 classes; `/21841` is one with the classes of ImageNet-22k; `/backbone` and
  `/unexpanded` are transformers' networks without a classifier, with and without the last convolution. For timm's
  variants also what its code says of the images that they take ("data").
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from golden.weights import images, settled, statistics, weights
from torch import Tensor, nn

FOLDER = Path(__file__).parent
DIGESTS = FOLDER / "digests.json"

VARIANTS = {
    "mobilevit": ("mobilevit_xxs", "mobilevit_xs", "mobilevit_s"),
    "mobilevitv2": tuple(f"mobilevitv2_{width:03}" for width in range(50, 201, 25)),
    "tiny_vit": ("tiny_vit_5m_224", "tiny_vit_11m_224", "tiny_vit_21m_224", "tiny_vit_21m_384", "tiny_vit_21m_512"),
    "efficientvit": tuple(f"efficientvit_m{i}" for i in range(6)),
}
RELEASES = {
    "mobilevit": ("timm", "transformers"),
    "mobilevitv2": ("timm", "transformers"),
    "tiny_vit": ("timm",),
    "efficientvit": ("timm",),
}
# Sizes with maps that fill the patches or windows, and sizes with maps that do not, of unequal sides among them. What
# does not fill a patch transformers' MobileViTV2 leaves out, where ml-cvnets, which trained the weights, and timm
# resize: there all maps fill them.
EVAL_SIZES = {
    ("mobilevit", "timm"): ((64, 64), (80, 96)),
    ("mobilevit", "transformers"): ((64, 64), (80, 96)),
    ("mobilevitv2", "timm"): ((64, 64), (80, 96)),
    ("mobilevitv2", "transformers"): ((64, 64), (64, 128)),
    ("tiny_vit", "timm"): ((224, 224), (256, 256), (96, 80)),
    ("efficientvit", "timm"): ((224, 224), (256, 256), (256, 288)),
}
TRAIN_SIZE = {"mobilevit": (64, 64), "mobilevitv2": (64, 128), "tiny_vit": (96, 128), "efficientvit": (224, 224)}
RESIZED = {"tiny_vit": (256, 256), "efficientvit": (512, 512)}

# What transformers' conversion script sets for each variant: transformer widths, stage widths, expansion.
_MOBILEVIT = {
    "mobilevit_xxs": ([64, 80, 96], [16, 16, 24, 48, 64, 80, 320], 2.0),
    "mobilevit_xs": ([96, 120, 144], [16, 32, 48, 64, 80, 96, 384], 4.0),
    "mobilevit_s": ([144, 192, 240], [16, 32, 64, 96, 128, 160, 640], 4.0),
}


def answers_path(family: str) -> Path:
    return FOLDER / f"{family}.safetensors"


def names_path(family: str) -> Path:
    return FOLDER / f"{family}.json"


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """SHA-256 of the sorted lines `name 1x2x3`."""
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _timm(variant: str, **options: Any) -> nn.Module:
    import timm

    if variant.startswith("tiny_vit"):  # whose default weights, and so class count, are those of ImageNet-22k
        options = {"num_classes": 1000, "drop_path_rate": 0.0} | options
    return timm.create_model(variant, **options)


def _transformers(variant: str, kind: str = "ForImageClassification", **options: Any) -> nn.Module:
    import transformers

    if variant in _MOBILEVIT:
        hidden_sizes, neck_hidden_sizes, expand_ratio = _MOBILEVIT[variant]
        config = transformers.MobileViTConfig(
            hidden_sizes=hidden_sizes,
            neck_hidden_sizes=neck_hidden_sizes,
            expand_ratio=expand_ratio,
            num_labels=1000,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            classifier_dropout_prob=0.0,
        )
        return getattr(transformers, f"MobileViT{kind}")(config, **options)
    config = transformers.MobileViTV2Config(
        width_multiplier=int(variant.rpartition("_")[2]) / 100, num_labels=1000, classifier_dropout_prob=0.0
    )
    return getattr(transformers, f"MobileViTV2{kind}")(config, **options)


_RELEASES: dict[str, Callable[..., nn.Module]] = {"timm": _timm, "transformers": _transformers}


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _logits(network: nn.Module, pixels: Tensor) -> Tensor:
    """What the network answers in float64: only so do tolerances speak of the networks, and not of this machine."""
    with torch.no_grad():
        answer = network.double()(pixels.double())
    return getattr(answer, "logits", answer).float()


def _check_that_every_tensor_counts(network: nn.Module, pixels: Tensor) -> None:
    """Refuse weights with which a mistake in any one tensor would drown: here its rows, turned by one."""
    expected = _logits(network, pixels)
    for name, tensor in network.state_dict().items():
        if name.endswith(("num_batches_tracked", "key.bias")):  # softmax takes the bias of keys out again
            continue
        kept = tensor.clone()
        tensor.copy_(kept.roll(1, 0) if len(kept) > 1 else 1.1 * kept)
        network.eval()  # also makes timm gather position biases anew
        change = (_logits(network, pixels) - expected).abs().max() / expected.abs().max()
        tensor.copy_(kept)
        if change < 2e-4:
            raise RuntimeError(f"{name} turned by one row changes the answer by no more than {change:.1e}")
    network.eval()


def _answers(family: str, release: str) -> dict[str, Tensor]:
    """All that `<family>.safetensors` holds of one release."""
    network = _RELEASES[release](VARIANTS[family][0])
    made = weights(_shapes(network))
    network.load_state_dict(made)
    network.train()
    height, width = TRAIN_SIZE[family]
    answers = {f"{release}/train/{height}x{width}": _logits(network, images((height, width)))}
    after = statistics(network.state_dict()).float()
    answers[f"{release}/statistics"] = after

    made = settled(made, after)
    network.load_state_dict(made)
    network.eval()
    _check_that_every_tensor_counts(network, images(EVAL_SIZES[family, release][-1], 1))
    for height, width in EVAL_SIZES[family, release]:
        answers[f"{release}/eval/{height}x{width}"] = _logits(network, images((height, width)))
    if family in RESIZED:
        height, width = RESIZED[family]
        answers[f"{release}/resized/{height}x{width}"] = _logits(_enlarged(family, made), images((height, width), 1))
    return answers


def _enlarged(family: str, made: dict[str, Tensor]) -> nn.Module:
    """timm's network for the size of `RESIZED`, with weights made for 224x224 and tables enlarged by Cream's rule."""
    from timm.layers import resize_rel_pos_bias_table_levit
    from timm.models import efficientvit_msra, tiny_vit

    for module in (tiny_vit, efficientvit_msra):
        module.resize_rel_pos_bias_table_levit = partial(resize_rel_pos_bias_table_levit, antialias=False)
    variant = VARIANTS[family][0]
    if family == "tiny_vit":
        network = _timm(variant, window_sizes=[8, 8, 16, 8])
        network.load_state_dict(tiny_vit.checkpoint_filter_fn(dict(made), network))
    else:
        network = _timm(variant)
        network.load_state_dict(made)
        network.set_input_size(RESIZED[family])
    return network.eval()


def _networks(family: str, release: str) -> dict[str, nn.Module]:
    """Every network of which `digests.json` speaks."""
    networks = {}
    for variant in VARIANTS[family]:
        networks[variant] = _RELEASES[release](variant)
        if family == "tiny_vit":
            networks[f"{variant}/21841"] = _timm(variant, num_classes=21841)
        if release == "transformers":
            networks[f"{variant}/backbone"] = _transformers(variant, "Model")
            networks[f"{variant}/unexpanded"] = _transformers(variant, "Model", expand_output=False)
    return networks


def _data(network: nn.Module) -> dict[str, Any]:
    from timm.data import resolve_model_data_config

    return resolve_model_data_config(network)


def _one_entry_a_line(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON in which a difference can be read."""

    def compact(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    def entries(table: Mapping[str, Any]) -> str:
        return ",\n".join(f"{compact(key)}:{compact(value)}" for key, value in table.items())

    return "{" + ",\n".join(f"{compact(name)}:{{\n{entries(table)}\n}}" for name, table in tables.items()) + "}\n"


def main() -> None:
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the order of additions depends on their number
    digests: dict[str, dict[str, dict[str, Any]]] = {"timm": {}, "transformers": {}}
    for family, releases in RELEASES.items():
        answers: dict[str, Tensor] = {}
        for release in releases:
            answers |= _answers(family, release)
            for name, network in _networks(family, release).items():
                parameters = sum(parameter.numel() for parameter in network.parameters())
                digests[release][name] = {"parameters": parameters, "sha256": digest(_shapes(network))}
                if release == "timm" and name in VARIANTS[family]:
                    digests[release][name]["data"] = _data(network)
        answers_path(family).write_bytes(safetensors.torch.save(answers))
        names = {release: _shapes(_RELEASES[release](VARIANTS[family][0])) for release in releases}
        names_path(family).write_text(_one_entry_a_line(names))
    DIGESTS.write_text(_one_entry_a_line(digests))


if __name__ == "__main__":
    main()
