"""Rounds of inferences: their statistics, and the order in which candidates take turns."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.bench.rounds import INFERENCES, interleave, summarize
from mobilevit_sdk.errors import ToolchainError

seconds = st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=50)


@given(seconds)
def test_median_and_p90_split_the_inferences_at_half_and_at_nine_tenths(values):
    median, p90 = summarize(values)
    ordered = sorted(values)
    assert ordered[(len(values) - 1) // 2] * (1 - 1e-9) <= median <= ordered[len(values) // 2] * (1 + 1e-9)
    assert median * (1 - 1e-9) <= p90 <= ordered[-1] * (1 + 1e-9)
    assert sum(value <= p90 * (1 + 1e-9) for value in values) >= 0.9 * (len(values) - 1)
    assert sum(value >= p90 * (1 - 1e-9) for value in values) >= 0.1 * len(values)


@given(seconds, st.randoms(use_true_random=False))
def test_the_order_of_inferences_does_not_matter_and_units_scale(values, shuffler):
    shuffled = list(values)
    shuffler.shuffle(shuffled)
    assert summarize(shuffled) == pytest.approx(summarize(values))
    assert summarize([1000 * value for value in values]) == pytest.approx([1000 * x for x in summarize(values)])


@dataclass(eq=False)
class Taker:
    """Notes its turns in a log that all share; the number of its turns stands for seconds."""

    name: str
    log: list[str]
    dies_at: int | None = None
    turns: list[int] = field(default_factory=list)

    def turn(self, inferences):
        self.log.append(self.name)
        self.turns.append(inferences)
        if len(self.turns) == self.dies_at:
            raise ToolchainError(f"{self.name} died")
        return [float(len(self.turns))] * inferences


@given(st.integers(1, 6), st.integers(1, 12))
def test_every_round_has_one_turn_of_each(count, rounds):
    log: list[str] = []
    takers = [Taker(str(number), log) for number in range(count)]
    outcomes = interleave(takers, rounds)
    for start in range(0, len(log), count):
        assert sorted(log[start : start + count]) == sorted(taker.name for taker in takers)
    assert len(log) == count * rounds
    expected = [float(number) for number in range(1, rounds + 1) for _ in range(INFERENCES)]
    assert all(outcomes[taker] == expected for taker in takers)


def test_nobody_always_goes_first_or_always_follows_the_same():
    log: list[str] = []
    interleave([Taker(name, log) for name in "abcd"], 20)
    rounds = ["".join(log[start : start + 4]) for start in range(0, 80, 4)]
    for name in "abcd":
        assert {order.index(name) for order in rounds} == {0, 1, 2, 3}
        before = {order[order.index(name) - 1] for order in rounds if order.index(name)}
        assert before == set("abcd") - {name}


def test_who_fails_ends_and_the_others_go_on():
    log: list[str] = []
    good, bad = Taker("good", log), Taker("bad", log, dies_at=2)
    outcomes = interleave([good, bad], 5)
    assert str(outcomes[bad]) == "bad died"
    assert len(bad.turns) == 2
    assert len(outcomes[good]) == 5 * INFERENCES
