"""benchmarks/deit_token.py and benchmarks/dearkd.py: runs of almost no size, resumed by arm, and their pages."""

from __future__ import annotations

from pathlib import Path

import dearkd
import deit_token
import msgspec
import pytest
from arms import ArmRun, table
from labeled_images import NAMES, pictures, write_parquet
from tiny_networks import tiny_model

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
COMMON = ("--images=16", "--validation=5", "--epochs=2", "--batch-size=8", "--seeds=1", "--depth=2", "--patch=8")


def _arguments(folder: Path) -> list[str]:
    data = write_parquet(folder / "a.parquet", pictures(30, size=32))
    model, spec = tiny_model("mobilevit", 32)
    save_checkpoint(model, msgspec.structs.replace(spec, labels=NAMES), folder / "teacher.safetensors")
    places = {"train-data": data, "test-data": data, "teacher": folder / "teacher.safetensors", "out": folder / "runs"}
    return [*COMMON, *(f"--{name}={place}" for name, place in places.items()), f"--page={folder / 'page.md'}"]


@pytest.mark.parametrize(
    ("benchmark", "shape", "first"),
    [
        (deit_token, ("--dim=8", "--heads=2"), "none"),
        (dearkd, ("--dim=8", "--heads=4", "--teacher-layer=stages.0", "--relative-blocks=1"), "DeiT"),
    ],
)
def test_every_arm_is_trained_once_and_the_page_has_them_all(benchmark, shape, first: str, tmp_path: Path) -> None:
    arguments = [*_arguments(tmp_path), *shape]
    benchmark.main([*arguments, f"--arms={first}"])
    record = tmp_path / "runs" / f"{first}-0.json"
    assert [each.name for each in (tmp_path / "runs").glob("*.json")] == [record.name]
    before = record.stat().st_mtime_ns
    benchmark.main(arguments)
    assert record.stat().st_mtime_ns == before
    rows = [line.split(" | ") for line in (tmp_path / "page.md").read_text().splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows[2:]] == list(benchmark.ARMS)
    runs = [msgspec.json.decode(each.read_bytes(), type=ArmRun) for each in (tmp_path / "runs").glob("*.json")]
    assert {bool(each.heads) for each in runs if each.arm in ("none", "soft", "hard")} <= {False}
    assert all(each.heads for each in runs if each.arm not in ("none", "soft", "hard"))
    if benchmark is dearkd:
        assert all(len(each.attention_distance) == each.epochs == 2 for each in runs)
        assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_differences_are_paired_by_seed_and_judged() -> None:
    fields = {"parameters": 10, "train_images": 1, "epochs": 2, "learning_rate": 1.0, "test_images": 5000, "loss": 1.0}
    runs = [
        ArmRun(arm=arm, seed=seed, top1=top1, heads={}, seconds=4.0, attention_distance=[], **fields)
        for arm, shares in (("none", (0.5, 0.52)), ("hard", (0.6, 0.61)))
        for seed, top1 in enumerate(shares)
    ]
    assert "| hard | 10 | 60.0% / 61.0% (60.5%) |  |  | +9.5 | better | 2.0 |" in table(runs, ["none", "hard"])
