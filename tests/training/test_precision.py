"""bfloat16 where it is faster, measured without a trace in the training."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import torch
from killed_training import RECIPE, make_trainer
from labeled_images import pictures, write_parquet
from safetensors import safe_open

from mobilevit_sdk.training import trainer as module
from mobilevit_sdk.training.run import run_training

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("seconds", "used", "note"),
    [
        ((1.0, 2.5), "fp32", "bf16 takes 2.5 times as long as fp32 here: training in fp32"),
        ((3.0, 2.0), "bf16", "bf16 is 1.5 times as fast as fp32 here"),
    ],
)
def test_bf16_is_used_where_it_is_faster_and_what_was_measured_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, float], used: str, note: str
) -> None:
    measure = module.measured
    monkeypatch.setattr(module, "measured", lambda *given: measure(*given) and seconds)
    data = write_parquet(tmp_path / "a.parquet", pictures(16))
    recipe = msgspec.structs.replace(RECIPE, epochs=1, precision="bf16")
    made = make_trainer(data, tmp_path / "bf16", recipe)
    assert (made.precision.used, made.precision.note) == (used, note)
    run_training(made, "training")
    with safe_open(tmp_path / "bf16" / "model.safetensors", framework="pt") as file:
        provenance = json.loads(file.metadata()["mobilevit_sdk"])["provenance"]
    assert provenance["precision"] == {"used": used, "fp32": seconds[0], "bf16": seconds[1]}
    monkeypatch.setattr(module, "measured", lambda *given: pytest.fail("measured again"))
    assert make_trainer(data, tmp_path / "bf16", recipe).precision == made.precision
    if used == "fp32":
        plain = make_trainer(data, tmp_path / "fp32", msgspec.structs.replace(recipe, precision="fp32"))
        plain.run()
        for name, value in plain.model.state_dict().items():
            assert torch.equal(value, made.model.state_dict()[name]), name
