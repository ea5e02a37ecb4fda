"""The page of benchmarks/performance.py, from measurements that are made up."""

from __future__ import annotations

import numpy as np
import performance_page
import pytest
import torch
from helpers import load_benchmark, tiny_spec

from mobilevit_sdk.bench import BASELINES, BenchResult, Row, describe_machine
from mobilevit_sdk.bench.chart import label, write_chart
from mobilevit_sdk.bench.rounds import INFERENCES
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.deployment import TARGETS


def row(runtime="executorch", median=2.0, threads=1, **kwargs):
    artifact = "net" if runtime in BASELINES else f"out/net-{runtime}/net.pte"
    return Row(artifact, runtime, threads, median, median * 1.5, 0.5, 0.4, 110.0, **kwargs)


def test_rows_are_called_by_their_folder_or_their_baseline():
    assert label(row()) == "net-executorch · executorch"
    assert label(row("onnxruntime")) == "onnxruntime"


def test_the_picture_leaves_out_what_was_not_measured(tmp_path):
    failed = Row("out/bad/net.pte", "executorch", 1, status="error", reason="died")
    write_chart({"one": [row(), failed], "none": [failed]}, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def record(medians, exactness=1e-12):
    """MobileViT-XXS with these medians in milliseconds, and conversions of 10 s against 20 s."""
    rows = [row(name, medians.get(name), threads) for threads in (1, 2) for name in ALL_WAYS if medians.get(name)]
    rows += [
        Row("net", name, threads, status="unavailable", reason="refused")
        for threads in (1, 2)
        for name in ALL_WAYS
        if not medians.get(name)
    ]
    made = [performance_page.Conversion(name, 10.0, 10**9, 10**6) for name in (".pte", ".tflite")]
    made += [
        performance_page.Conversion("executorch-stock", 20.0, 10**9, 10**6),
        performance_page.Conversion("tflite-stock", error="refused"),
    ]
    latency = BenchResult(describe_machine(), 2, INFERENCES, {1: 50.0, 2: 90.0}, rows)
    return performance_page.Record("mobilevit_xxs", (256, 256), 10**6, 10**8, {"xnnpack": exactness}, made, latency)


ALL_WAYS = ("executorch", "litert-cpu", "executorch-stock", "tflite-stock", "onnxruntime", "pytorch-compile", "pytorch")
FAST = dict(zip(ALL_WAYS, (3.0, 4.0, 12.0, 8.0, 9.0, 20.0, 30.0), strict=True))


def test_the_page_says_what_was_reached_next_to_each_bar(tmp_path):
    page = tmp_path / "performance.md"
    performance_page.write_performance([record(FAST)], page)
    text = page.read_text()
    assert "| .pte over executorch-stock | 0.30 | 0.25 | 0.25 |" in text
    assert "| .tflite over tflite-stock | 0.85 | 0.50 | 0.50 |" in text
    assert "| seconds to a .pte over executorch-stock | 0.60 | 0.50 |" in text
    assert "| tflite-stock | refused |" in text
    assert "| 0.85 | 0.50 | 0.50 | 24%, 24% |" in text  # 40% of the roof at a ratio of 0.50
    assert "**0" not in text.partition("## Latency")[0]
    assert page.with_suffix(".png").exists()
    assert all(met for _, met in performance_page.bars(record(FAST)))


@pytest.mark.parametrize(
    ("medians", "exactness", "cell"),
    [
        (FAST | {"executorch": 4.0}, 0.0, "0.30 | **0.33** | **0.33** |"),
        (FAST | {"onnxruntime": 5.0}, 0.0, "0.70 | **0.80** | **0.80** |"),
        (FAST, 1e-6, "1e-09 | **1.0e-06** |"),
    ],
)
def test_a_missed_bar_is_bold_and_counts_as_missed(medians, exactness, cell, tmp_path):
    missed = record(medians, exactness)
    performance_page.write_performance([missed], tmp_path / "performance.md")
    assert cell in (tmp_path / "performance.md").read_text()
    assert [met for _, met in performance_page.bars(missed)].count(False) == 1


def test_a_way_that_does_not_exist_misses_no_bar():
    lines = list(performance_page.bars(record(FAST | {"tflite-stock": None})))
    assert "does not convert | does not convert" in lines[1][0]
    assert all(met for _, met in lines)


def test_phone_graphs_are_exact_and_the_checkpoint_stays_as_it_was():
    performance = load_benchmark("performance")
    checkpoint = random_checkpoint(tiny_spec(), 0)
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    found = performance.exactness(checkpoint, image)
    assert set(found) == set(TARGETS)
    assert 0 < max(found.values()) < 1e-12
    assert next(checkpoint.model.parameters()).dtype == torch.float32
