"""The page of benchmarks/quantization.py, from measurements that are made up."""

from __future__ import annotations

import pytest
from helpers import load_benchmark

from mobilevit_sdk.bench import BenchResult, Row, describe_machine


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("quantization")


def measured(benchmark, precision="int8", top1=0.85, *, data_free=False):
    return benchmark.Row(precision, "tflite", data_free, "litert-cpu", 0.3, 5000, 0.855, top1, 0.97)


def trained(benchmark, *rows):
    return benchmark.Trained("net", (64, 64), 10, 5000, 0.855, list(rows))


def published(benchmark, small_bytes=27, small_ms=5.0, model="tiny_vit_5m_224"):
    medians = [("executorch", 10.0), ("executorch", small_ms), ("litert-cpu", 10.0), ("litert-cpu", 5.0)]
    rows = [Row("a", runtime, 1, ms, ms, ms / 10, 0.4, 30.0) for runtime, ms in medians]
    latency = BenchResult(describe_machine(), 2, 10, {1: 50.0}, rows)
    return benchmark.Published(model, (224, 224), {"tflite": (100, small_bytes)}, latency)


def test_a_loss_beyond_the_bar_is_bold_and_one_within_is_not(benchmark):
    text = benchmark.page([trained(benchmark, measured(benchmark, top1=0.8505))], [])
    assert "| int8 | tflite | 5,000 | 0.300 | 85.05% | +0.45 | 0.5 | 97% |" in text
    text = benchmark.page([trained(benchmark, measured(benchmark, top1=0.849))], [])
    assert "| 84.90% | **+0.60** | 0.5 |" in text


def test_what_was_calibrated_without_images_has_a_bar_of_its_own(benchmark):
    text = benchmark.page([trained(benchmark, measured(benchmark, top1=0.845, data_free=True))], [])
    assert "| int8, no images | tflite | 5,000 | 0.300 | 84.50% | +1.00 | 1.5 |" in text


def test_sizes_and_latencies_are_held_to_theirs(benchmark):
    text = benchmark.page([], [published(benchmark)])
    assert "| tiny_vit_5m_224 at 224 | tflite | 0.00 MB | 0.00 MB | 0.270 |" in text
    assert "| executorch | 1 | 10.00 ms | 5.00 ms | 0.50 |" in text
    text = benchmark.page([], [published(benchmark, small_bytes=30, small_ms=9.0)])
    assert "| **0.300** |" in text
    assert "| executorch | 1 | 10.00 ms | 9.00 ms | **0.90** |" in text
    small = benchmark.page([], [published(benchmark, small_bytes=30, model="mobilevit_xxs")])
    assert "| 0.300 |" in small  # its size has no bar


def test_one_missed_bar_is_the_exit_code(benchmark):
    good = trained(benchmark, measured(benchmark)), published(benchmark)
    assert benchmark.missed([good[0]], [good[1]]) == 0
    assert benchmark.missed([trained(benchmark, measured(benchmark, top1=0.8))], [good[1]]) == 1
    assert benchmark.missed([good[0]], [published(benchmark, small_bytes=30)]) == 1
    assert benchmark.missed([good[0]], [published(benchmark, small_ms=9.0)]) == 1
