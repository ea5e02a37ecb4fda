"""Where an artifact diverges from the PyTorch reference: block by block, then operator by operator."""

from mobilevit_sdk.bisection.overlay import require_drawn, write_overlay
from mobilevit_sdk.bisection.report import write_bisection
from mobilevit_sdk.bisection.search import bisect
from mobilevit_sdk.bisection.verdict import Bisection, Block, Operator

__all__ = ["Bisection", "Block", "Operator", "bisect", "require_drawn", "write_bisection", "write_overlay"]
