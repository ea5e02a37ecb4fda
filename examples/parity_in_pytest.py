"""Gate a release in your own test suite: pytest finds the fixture `assert_parity` once the SDK is installed.

    ARTIFACTS=artifacts pytest examples/parity_in_pytest.py

Thresholds come from `[tool.mobilevit.parity]` in your pyproject.toml, or are the SDK's.
"""

from __future__ import annotations

import os
from pathlib import Path

from mobilevit_sdk import inspect_artifact

ARTIFACTS = Path(os.environ.get("ARTIFACTS", "artifacts"))
TFLITE = ARTIFACTS / "mobilevit_xxs-tflite-fp32"


def test_the_phone_model_answers_as_the_trained_one(assert_parity):
    (verdict,) = assert_parity(TFLITE, runtime="litert-cpu")
    assert verdict.agreement.sqnr_db.worst > 90


def test_the_phone_model_is_one_delegate_and_small():
    found = inspect_artifact(TFLITE)
    assert (found.delegates, found.undelegated_ops) == (1, {})
    assert sum(file.stat().st_size for file in TFLITE.glob("*.tflite")) < 10_000_000
