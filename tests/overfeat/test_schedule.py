"""The learning rate at a moment: the paper's worked values, and a rise and a fall."""

from __future__ import annotations

import math

import pytest

from overfeat.schedule import CosineSchedule, StepSchedule
from tests.overfeat.builders import describe

NAN, INF = math.nan, math.inf


def test_the_papers_rates_are_halved_after_30_50_60_70_and_80_epochs():
    schedule = StepSchedule()
    worked = {0.05: (0.01, 30.0), 0.025: (30.01, 50.0), 0.0125: (50.01, 60.0)}
    worked |= {0.00625: (60.01, 70.0), 0.003125: (70.01, 80.0), 0.0015625: (80.01, 1e3)}
    for rate, epochs in worked.items():
        assert [schedule.rate_at(epoch) for epoch in epochs] == pytest.approx([rate, rate])


def test_the_rate_drops_within_an_epoch_too():
    schedule = StepSchedule(rate=1.0, factor=0.1, drop_epochs=(0.5, 2.25))
    epochs = (0.0, 0.5, 0.501, 2.25, 2.2501)
    rates = [schedule.rate_at(epoch) for epoch in epochs]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_without_drops_the_rate_is_constant():
    assert StepSchedule(rate=0.3, drop_epochs=()).rate_at(1e9) == 0.3


def test_the_cosine_rises_in_a_line_and_falls_to_0():
    schedule = CosineSchedule(epochs=10.0, rate=0.4, warm_up=0.2)
    worked = {0.0: 0, 0.5: 0.1, 1.0: 0.2, 1.5: 0.3, 2.0: 0.4, 6.0: 0.2, 10.0: 0}
    # A third and two thirds of the fall: cosines of 60 and 120 degrees.
    worked |= {2 + 8 / 3: 0.3, 2 + 16 / 3: 0.1}
    for epoch, rate in worked.items():
        assert schedule.rate_at(epoch) == pytest.approx(rate, abs=1e-12)


def test_the_cosine_stays_at_0_after_its_end():
    assert CosineSchedule(epochs=2.5).rate_at(2.5) == pytest.approx(0, abs=1e-18)
    assert CosineSchedule(epochs=2.5).rate_at(30.0) == pytest.approx(0, abs=1e-18)


def test_without_a_warm_up_the_cosine_starts_at_its_highest():
    assert CosineSchedule(epochs=3.0, rate=0.7, warm_up=0.0).rate_at(0.0) == pytest.approx(0.7)


@pytest.mark.parametrize("epoch", [-0.1, NAN])
@pytest.mark.parametrize("schedule", [StepSchedule(), CosineSchedule(epochs=1.0)])
def test_there_is_no_rate_before_the_first_epoch(schedule, epoch):
    with pytest.raises(ValueError, match=f"schedule epoch: received {epoch}, expected at least 0"):
        schedule.rate_at(epoch)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *[(StepSchedule, {"rate": rate}) for rate in (0.0, -1.0, NAN, INF)],
        *[(StepSchedule, {"factor": factor}) for factor in (0.0, 1.1, NAN)],
        (StepSchedule, {"drop_epochs": (0.0, 1.0)}),
        (StepSchedule, {"drop_epochs": (2.0, 2.0)}),
        (StepSchedule, {"drop_epochs": (3.0, 2.0)}),
        (StepSchedule, {"drop_epochs": (NAN,)}),
        (StepSchedule, {"drop_epochs": (INF,)}),
        *[(CosineSchedule, {"epochs": epochs}) for epochs in (0.0, -1.0, NAN, INF)],
        *[(CosineSchedule, {"epochs": 1.0, "rate": rate}) for rate in (0.0, NAN, INF)],
        *[(CosineSchedule, {"epochs": 1.0, "warm_up": part}) for part in (-0.1, 1.0, NAN)],
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(kind, fields):
    name = list(fields)[-1]
    with pytest.raises(ValueError, match=f"schedule {name}: received .*, expected") as error:
        kind(**fields)
    describe(error)
