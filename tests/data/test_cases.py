"""The cases that every artifact is asked about."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mobilevit_sdk.data.cases import photographs
from mobilevit_sdk.data.pictures import decode_picture


def test_the_photographs_are_those_that_scikit_learn_loads():
    datasets = pytest.importorskip("sklearn.datasets")
    for file, pixels in zip(photographs(), datasets.load_sample_images().images, strict=True):
        np.testing.assert_array_equal(np.asarray(decode_picture(file.read_bytes())), pixels)


def test_finding_them_imports_nothing_heavy():
    code = (
        "import sys; from mobilevit_sdk.data.cases import photographs; photographs(); print('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
