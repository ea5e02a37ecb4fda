"""Latency of artifacts and of the alternatives to them, each in a process of its own, in interleaved rounds."""

from mobilevit_sdk.bench.baselines import BASELINES, Prepared, StockRuntime, prepare
from mobilevit_sdk.bench.candidates import Candidate, candidates_of
from mobilevit_sdk.bench.machine import Machine, describe_machine, usable_cores
from mobilevit_sdk.bench.rounds import BenchResult, Row, bench
from mobilevit_sdk.parity.device import PhoneRow, phone_rows

__all__ = [
    "BASELINES",
    "BenchResult",
    "Candidate",
    "Machine",
    "PhoneRow",
    "Prepared",
    "Row",
    "StockRuntime",
    "bench",
    "candidates_of",
    "describe_machine",
    "phone_rows",
    "prepare",
    "usable_cores",
]
