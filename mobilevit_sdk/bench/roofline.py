"""The roof: no file can need fewer seconds than its multiply-accumulates over the rate of the machine's best sgemm."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from mobilevit_sdk.formats.runtime import Session
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.spec import ModelSpec

SIDE = 512  # of the matrices: three of them fit the second-level cache of a core of today, and no network's are larger
SGEMM_MACS = SIDE**3


def open_sgemm(threads: int) -> Session:
    """In a child process: a product of two square float32 matrices, as a session; the image does not matter."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(SIDE, SIDE, generator=generator) for _ in range(2))
    product = torch.empty(SIDE, SIDE)

    def run(_: None) -> np.ndarray:
        torch.mm(left, right, out=product)
        return product[0].numpy()

    return Session(to_input=lambda image: None, run=run)


def count_macs(spec: ModelSpec) -> int:
    """Multiply-accumulates of the reference form on one image, in convolutions, linears and products of attention."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_model(spec).eval()(torch.empty(1, 3, *spec.preprocessing.image_size))
    return counter.get_total_flops() // 2
