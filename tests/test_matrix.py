"""Every variant in every format and precision at its published size; `make matrix` runs it, `make test` does not."""

from __future__ import annotations

import pytest

from mobilevit_sdk.conversion import convert
from mobilevit_sdk.converter import converters
from mobilevit_sdk.parity import passed
from mobilevit_sdk.registry import list_models, model_spec
from mobilevit_sdk.source import random_checkpoint


@pytest.mark.matrix
@pytest.mark.parametrize("name", [entry.name for entry in list_models()])
@pytest.mark.parametrize(
    ("format_name", "precision"),
    [(converter.format, precision) for converter in converters().values() for precision in converter.precisions],
)
def test_a_full_size_model_converts_and_passes(name, format_name, precision, tmp_path):
    checkpoint = random_checkpoint(model_spec(name), seed=0)
    result = convert(checkpoint, out=tmp_path, formats=[format_name], precisions=[precision])
    assert result.failures == []
    assert passed(result.verdicts), result.verdicts
    assert all(artifact.manifest.max_rank <= 4 for artifact in result.artifacts)
