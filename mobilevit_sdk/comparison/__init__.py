"""One table for all formats: every file that a checkpoint can become, converted, verified, evaluated and timed."""

from mobilevit_sdk.comparison.record import Comparison, FileRow, Floors
from mobilevit_sdk.comparison.run import RowFound, compare_formats

__all__ = ["Comparison", "FileRow", "Floors", "RowFound", "compare_formats"]
