"""Are faults drawn at their rates, and the same ones again with the same seed?"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.plan import (
    PLAN_RATES,
    Fault,
    FaultRates,
    Operation,
    choose_injection,
    place_fault,
)


def draw(rates, operation, count, seed=1):
    return [choose_injection(rates, operation, f"request {n}", seed) for n in range(count)]


def test_each_fault_comes_at_its_rate():
    rates = FaultRates(
        slow_down=0.2, internal_error=0.1, reset=0.05, reset_midway=0.05, cut_body=0.1, stall=0.1
    )
    kinds = Counter(i.fault if i else None for i in draw(rates, Operation.GET, 10_000))
    for fault in set(Fault) - {Fault.EXPIRED_TOKEN}:
        assert kinds[fault] == pytest.approx(10_000 * rates.of(fault), rel=0.15)
    assert kinds[None] == pytest.approx(4_000, rel=0.1)
    assert kinds[Fault.EXPIRED_TOKEN] == 0


def test_half_of_the_faults_on_writes_lose_the_answer():
    found = [i for i in draw(FaultRates(reset=1.0), Operation.PUT, 1000) if i]
    assert sum(injection.after for injection in found) == pytest.approx(500, rel=0.15)
    assert all(i and not i.after for i in draw(FaultRates(reset=1.0, after=0), Operation.PUT, 100))


def test_the_seed_and_the_request_decide_and_nothing_else():
    assert draw(PLAN_RATES, Operation.GET, 500) == draw(PLAN_RATES, Operation.GET, 500)
    assert draw(PLAN_RATES, Operation.GET, 500) != draw(PLAN_RATES, Operation.GET, 500, seed=2)


def test_no_rates_no_faults():
    assert draw(FaultRates(), Operation.PUT, 1000) == [None] * 1000


def test_buckets_are_made_without_faults():
    assert draw(FaultRates(slow_down=1.0), Operation.OTHER, 10) == [None] * 10


def test_what_has_no_body_is_not_cut_short():
    assert place_fault(Fault.CUT_BODY, Operation.HEAD, after=True) is None
    assert place_fault(Fault.CUT_BODY, Operation.DELETE, after=True) is None


def test_a_put_can_only_be_cut_short_in_its_answer():
    injection = place_fault(Fault.CUT_BODY, Operation.PUT, after=False)
    assert injection
    assert injection.after


@pytest.mark.parametrize(
    "wrong", [{"stall": -0.1}, {"reset": 0.6, "stall": 0.6}, {"after": 1.5}, {"stall_s": -1.0}]
)
def test_impossible_rates_are_refused(wrong):
    with pytest.raises(ValueError, match="shares"):
        FaultRates(**wrong)
