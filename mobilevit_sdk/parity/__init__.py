"""The gate: an artifact's answers compared with PyTorch's, on every runtime that this machine has.

Importing it does not import torch: runtimes that do not need torch are verified on machines without it.
"""

from mobilevit_sdk.artifacts.reference import reference_of
from mobilevit_sdk.data.cases import builtin_cases, image_cases
from mobilevit_sdk.parity.drift import Drift, read_baseline
from mobilevit_sdk.parity.gate import Verdict, judge, passed, verify
from mobilevit_sdk.parity.metrics import Agreement, compare
from mobilevit_sdk.parity.outcome import Outcome, judge_runs
from mobilevit_sdk.parity.pairs import Pair, compare_runs
from mobilevit_sdk.parity.runs import Run, run_artifacts
from mobilevit_sdk.parity.thresholds import THRESHOLDS, Threshold, find_config, read_thresholds

__all__ = [
    "THRESHOLDS",
    "Agreement",
    "Drift",
    "Outcome",
    "Pair",
    "Run",
    "Threshold",
    "Verdict",
    "builtin_cases",
    "compare",
    "compare_runs",
    "find_config",
    "image_cases",
    "judge",
    "judge_runs",
    "passed",
    "read_baseline",
    "read_thresholds",
    "reference_of",
    "run_artifacts",
    "verify",
]
