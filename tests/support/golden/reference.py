"""What `make.py` wrote, as tests want it, under the names of every public release."""

from __future__ import annotations

import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from golden.make import DIGESTS, RELEASES, TRAIN_SIZE, VARIANTS, answers_path, names_path
from golden.renaming import RULES, renamed
from golden.weights import settled, weights
from torch import Tensor

Size = tuple[int, int]
Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, Tensor]

# Every (family, release) that has key maps.
MADE = [(family, release) for family, releases in RELEASES.items() for release in releases]
ALL = sorted([*MADE, *RULES], key=lambda each: list(VARIANTS).index(each[0]))

SUFFIXES = {"timm": ".pth", "transformers": ".safetensors", "ml-cvnets": ".pt", "cream": ".bin"}


def maker(family: str, release: str) -> str:
    """The release whose code computed the answers: timm stands in for those whose tensors are timm's, renamed."""
    return "timm" if (family, release) in RULES else release


def shapes(family: str, release: str) -> Shapes:
    """Names and shapes of the smallest variant with 1000 classes, as the release's own code gave them."""
    stored = json.loads(names_path(family).read_text())[maker(family, release)]
    found = {name: tuple(shape) for name, shape in stored.items()}
    return renamed(found, family, release) if (family, release) in RULES else found


def untrained_weights(family: str, release: str) -> Weights:
    """Weights of the smallest variant before its pass in training mode."""
    made = weights(shapes(family, maker(family, release)))
    return renamed(made, family, release) if (family, release) in RULES else made


@cache
def _release_weights(family: str, release: str) -> Weights:
    # renamed keeps the order of the names, which is that of the statistics
    return settled(untrained_weights(family, release), statistics_after(family, release))


def release_weights(family: str, release: str) -> Weights:
    """Weights of the smallest variant for eval mode. Do not write into the tensors."""
    return dict(_release_weights(family, release))


@cache
def answers(family: str) -> Weights:
    """Everything in `<family>.safetensors`; `make.py` lists its keys."""
    return safetensors.torch.load_file(answers_path(family))


def eval_logits(family: str, release: str, size: Size) -> Tensor:
    """Logits [3, 1000] of `images(size)` with `release_weights`."""
    return answers(family)[f"{maker(family, release)}/eval/{size[0]}x{size[1]}"]


def resized_logits(family: str, size: Size) -> Tensor:
    """Logits [1, 1000] of `images(size, 1)` with `release_weights` of timm in a network made for that size."""
    return answers(family)[f"timm/resized/{size[0]}x{size[1]}"]


def train_logits(family: str, release: str) -> Tensor:
    """Logits [3, 1000] of `images(TRAIN_SIZE[family])` in training mode, with `untrained_weights`."""
    height, width = TRAIN_SIZE[family]
    return answers(family)[f"{maker(family, release)}/train/{height}x{width}"]


def statistics_after(family: str, release: str) -> Tensor:
    """The `statistics` after that pass in training mode."""
    return answers(family)[f"{maker(family, release)}/statistics"]


@cache
def digests(release: str) -> dict[str, dict[str, Any]]:
    """Network -> "parameters", "sha256" and timm's "data", as `make.py` says."""
    return json.loads(DIGESTS.read_text())[release]


def save_as_published(folder: Path, release: str, tensors: Weights) -> Path:
    """Write a file of the kind that the release publishes."""
    path = folder / f"weights{SUFFIXES[release]}"
    if release == "transformers":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save({"model": tensors} if release == "cream" else tensors, path)
    return path


def attention_bias_idxs(tensors: Weights) -> Weights:
    """What Cream stores beside each table [heads, window**2]: which column [N, N] takes, N = window**2.

    Columns are numbered in the order in which their offset first occurs between two positions.
    """
    indices = {}
    for name, table in tensors.items():
        if name.endswith("attention_biases"):
            side = round(table.shape[1] ** 0.5)
            positions = list(itertools.product(range(side), repeat=2))
            numbers: dict[tuple[int, int], int] = {}
            rows = [
                [numbers.setdefault((abs(y - v), abs(x - u)), len(numbers)) for v, u in positions] for y, x in positions
            ]
            indices[name.replace("attention_biases", "attention_bias_idxs")] = torch.tensor(rows)
    return indices
