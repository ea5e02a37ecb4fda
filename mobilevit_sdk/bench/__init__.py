"""Latency: artifacts and what a user would do without them, each in a process of its own, in interleaved rounds."""

from mobilevit_sdk.bench.baselines import BASELINES, Prepared, StockRuntime, prepare
from mobilevit_sdk.bench.candidates import Candidate, candidates_of
from mobilevit_sdk.bench.machine import Machine, describe_machine, usable_cores
from mobilevit_sdk.bench.rounds import BenchProgress, BenchResult, Row, bench

__all__ = [
    "BASELINES",
    "BenchProgress",
    "BenchResult",
    "Candidate",
    "Machine",
    "Prepared",
    "Row",
    "StockRuntime",
    "bench",
    "candidates_of",
    "describe_machine",
    "prepare",
    "usable_cores",
]
