"""The roofline: no file can take less time than its multiply-accumulates do at the rate of the machine's best sgemm."""

from __future__ import annotations

import numpy as np
import torch

from mobilevit_sdk.formats.runtime import Session

SIDE = 512  # of the matrices: three fit the second-level cache of a current core, and no network has larger ones
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
