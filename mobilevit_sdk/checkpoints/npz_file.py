"""Google's Vision Transformers, arrays of NumPy (.npz) as JAX saves them, under the names that timm gives them.

Nothing in a file is executed: an array of objects, which NumPy would unpickle, is refused. Flax computes GELU by its
tanh approximation; these weights run with the exact one here, as in timm and transformers. Sources: the files of
https://github.com/google-research/vision_transformer and `models/vit.py` there, which names the arrays.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.text import one_line

_MAX_BYTES = 8_000_000_000  # of all arrays unpacked: the largest public file, of ViT-H, has 2.6 GB
_MAX_RATIO = 4  # of the arrays to the file: weights hardly compress
NOTE = (
    "Google's arrays were read under timm's names; Flax computes GELU by tanh, and here it is exact, as in timm "
    "and transformers"
)
# Google's code begins a head with zeros, and some of its files for fine-tuning hold it so.
UNTRAINED = "its head is all zeros, so each class scores the same: train one, or take `features=pooled`"

# Beginning of a name, at the authors' and in big_vision, whose numbers of layers are others.
_WRAPPERS = re.compile(r"^(opt/target/|params/)")
_STACKED = "Transformer/encoderblock/"
_BLOCK = re.compile(r"^Transformer/encoderblock_(\d{1,3})/(.+)$")
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_OUTSIDE = {
    "embedding": "patch_embed.proj",
    "Transformer/encoder_norm": "norm",
    "pre_logits": "pre_logits.fc",
    "head": "head",
}
_INSIDE = {
    r"LayerNorm_0": "norm1",
    r"LayerNorm_[12]": "norm2",
    r"MultiHeadDotProductAttention_[01]/out": "attn.proj",
    r"MlpBlock_[03]/Dense_0": "mlp.fc1",
    r"MlpBlock_[03]/Dense_1": "mlp.fc2",
}
_QKV = re.compile(r"^MultiHeadDotProductAttention_[01]/(query|key|value)$")


def is_npz(path: Path) -> bool:
    """Whether the file is a zip archive of nothing but arrays of NumPy, a class token among them."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile's own errors derive from nothing closer
        return False
    return all(name.endswith(".npy") for name in names) and any(_WRAPPERS.sub("", name) == "cls.npy" for name in names)


def read_npz(path: Path, source: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The arrays as timm names and lays them out, and a note. Raises CheckpointError for anything but numbers."""
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(each.file_size for each in archive.infolist())
        if claimed > min(_MAX_BYTES, _MAX_RATIO * path.stat().st_size):
            raise CheckpointError(f"{source} claims {claimed:,} bytes of arrays: more than weights are packed into")
        with np.load(path, allow_pickle=False) as file:
            arrays = {_WRAPPERS.sub("", name): _tensor(file[name]) for name in file.files}
    except CheckpointError:
        raise
    except Exception as error:  # those of zipfile, of each way to compress, and of NumPy derive from nothing closer
        raise CheckpointError(f"{source} is no complete .npz file of numbers: {one_line(str(error), 200)}") from error
    head = arrays.get("head/kernel")
    notes = (NOTE, UNTRAINED) if head is not None and not head.any() else (NOTE,)
    try:
        return dict(_renamed(_one_by_one(arrays))), notes
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source} has arrays of strange shapes: {one_line(str(error), 200)}") from error


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"an array of type {array.dtype}")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def _one_by_one(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Blocks that big_vision stacked along a first axis (its `scan`), each under its own number."""
    found: dict[str, Tensor] = {}
    for name, tensor in arrays.items():
        if name.startswith(_STACKED):
            found |= {f"Transformer/encoderblock_{i}/{name.removeprefix(_STACKED)}": x for i, x in enumerate(tensor)}
        else:
            found[name] = tensor
    return found


def _renamed(arrays: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Names that are not known stay as they are; identification then says that they are left over."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in arrays.items():
        module, _, leaf = name.rpartition("/")
        inside = _BLOCK.match(module)
        if name == "cls":
            yield "cls_token", tensor
        elif name in ("Transformer/posembed_input/pos_embedding", "pos_embedding"):
            yield "pos_embed", tensor
        elif module in _OUTSIDE and leaf in _LEAVES:
            yield f"{_OUTSIDE[module]}.{_LEAVES[leaf]}", _weight(tensor)
        elif inside and _QKV.match(inside[2]) and leaf in _LEAVES:
            part = tensor.flatten(1).T if tensor.ndim == 3 else tensor.flatten()  # [D, heads, d] -> [heads d, D]
            whole = f"blocks.{inside[1]}.attn.qkv.{_LEAVES[leaf]}"
            parts.setdefault(whole, {})[inside[2].rpartition("/")[2]] = part
        elif inside and leaf in _LEAVES and (ours := _inside(inside[2])):
            if ours == "attn.proj" and tensor.ndim == 3:
                tensor = tensor.flatten(0, 1)  # [heads, d, D] -> [heads d, D]
            yield f"blocks.{inside[1]}.{ours}.{_LEAVES[leaf]}", _weight(tensor)
        else:
            yield name, tensor
    for whole, own in parts.items():
        yield whole, torch.cat([own[name] for name in ("query", "key", "value") if name in own]).contiguous()


def _inside(module: str) -> str | None:
    return next((ours for pattern, ours in _INSIDE.items() if re.fullmatch(pattern, module)), None)


def _weight(tensor: Tensor) -> Tensor:
    """Kernels end with the axis that linears and convolutions of PyTorch begin with."""
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()  # [h, w, in, out] -> [out, in, h, w]
    return tensor.T.contiguous() if tensor.ndim == 2 else tensor
