"""The gate: an artefact's answers against PyTorch's, on every runtime that this machine has."""

from mobilevit_sdk.parity.cases import builtin_cases, image_cases, reference_of
from mobilevit_sdk.parity.gate import THRESHOLDS, Verdict, VerifyProgress, passed, verify
from mobilevit_sdk.parity.metrics import Agreement, compare

__all__ = [
    "THRESHOLDS",
    "Agreement",
    "Verdict",
    "VerifyProgress",
    "builtin_cases",
    "compare",
    "image_cases",
    "passed",
    "reference_of",
    "verify",
]
