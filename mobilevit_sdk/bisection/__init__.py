"""Where an artifact diverges from the PyTorch reference: block by block, then operator by operator."""

from mobilevit_sdk.bisection.report import write_bisection
from mobilevit_sdk.bisection.search import bisect
from mobilevit_sdk.bisection.verdict import Bisection, Block, Operator

__all__ = ["Bisection", "Block", "Operator", "bisect", "write_bisection"]
