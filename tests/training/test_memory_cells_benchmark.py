"""benchmarks/memory_cells.py: a run of almost no size, and what its page says."""

from __future__ import annotations

from pathlib import Path

import memory_cells
import memory_cells_page as page
import msgspec
import pytest
from labeled_images import pictures, write_parquet

pytestmark = pytest.mark.usefixtures("one_thread")


def fit(arm: str, rate: float, validation: float, seed: int = 0) -> page.Fit:
    return page.Fit(
        arm=arm,
        learning_rate=rate,
        seed=seed,
        learned=100,
        images=1000,
        views=2,
        epochs=4,
        steps=32,
        loss=1.0,
        validation=validation,
        validation_images=500,
    )


def test_validation_images_choose_the_rate_of_each_arm_and_the_first_seed_decides() -> None:
    fits = [fit("head", 0.1, 0.3), fit("head", 0.01, 0.4), fit("full", 0.1, 0.5), fit("full", 0.01, 0.5)]
    assert page.chosen([*fits, fit("head", 0.1, 0.9, seed=1)]) == {"head": 0.01, "full": 0.01}


def test_the_page_compares_each_arm_with_the_head_and_with_the_arm_above() -> None:
    fits = [fit("head", 0.1, 0.3), fit("0 cells", 0.1, 0.32), fit("10 cells", 0.1, 0.41), fit("2 cells", 0.1, 0.4)]
    top1 = {"head": (0.3, 0.31), "0 cells": (0.31, 0.305), "10 cells": (0.40, 0.41), "2 cells": (0.35, 0.36)}
    tested = [page.Tested(arm, 0.1, seed, share, 5000) for arm, both in top1.items() for seed, share in enumerate(both)]
    tested.append(page.Tested("head", 0.01, 0, 0.9, 5000))  # of an earlier, narrower search
    text = page.page(None, fits, tested)
    assert "| head alone | 100 | 0.1 | 30.0% | 30.0% / 31.0% (30.5%) |  |  |" in text
    assert "| head, class token | 100 | 0.1 | 32.0% | 31.0% / 30.5% (30.8%) | +0.3 | a tie |" in text
    rows = [line.split(" | ")[0] for line in text.splitlines() if "cells |" in line]
    assert rows == ["| head, class token, 2 cells", "| head, class token, 10 cells"]
    assert "| 40.0% / 41.0% (40.5%) | +10.0 | better |" in text


def test_a_run_leaves_the_base_alone_and_its_answers_are_those_of_the_network_with_the_task(tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "a.parquet", pictures(30))
    arguments = [f"--{name}={data}" for name in ("base-data", "data", "test-data")]
    arguments += [
        "--base-epochs=1",
        "--dim=8",
        "--depth=2",
        "--images=20",
        "--validation=10",
        "--views=2",
        "--epochs=2",
    ]
    arguments += ["--seeds=1", "--rates=0.01,0.001", "--arms=head,0 cells,2 cells,full"]
    arguments += [f"--out={tmp_path / 'out'}", f"--page={tmp_path / 'p.md'}"]
    memory_cells.main(arguments)
    text = (tmp_path / "p.md").read_text()
    assert "unchanged to the bit in 2\nof 2 cases" in text
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    found = {
        record.arm: record
        for path in (tmp_path / "out" / "tested").glob("*.json")
        for record in [msgspec.json.decode(path.read_bytes(), type=page.Tested)]
    }
    assert set(found) == {"head", "0 cells", "2 cells", "full"}
    assert all(found[arm].base_unchanged and found[arm].difference < 1e-5 for arm in ("0 cells", "2 cells"))
    learned = {
        record.arm: record.learned
        for path in (tmp_path / "out" / "fits").glob("*.json")
        for record in [msgspec.json.decode(path.read_bytes(), type=page.Fit)]
    }
    head = 8 * 5 + 5
    assert (learned["head"], learned["0 cells"], learned["2 cells"]) == (head, head + 8, head + 8 + 2 * 2 * 8)

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")}
    memory_cells.main(arguments)  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")} == made
