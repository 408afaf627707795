"""Do several drivers at once leave the rows right? `python -m tests.torture` holds more."""

from __future__ import annotations

from tests.torture.contests import torture_contests
from tests.torture.stores import LOCAL


def test_of_drivers_that_start_at_once_one_works_and_the_rows_are_right():
    record = torture_contests(4, contests=1, kinds=(LOCAL,))
    assert record.faults["driver beside another one"] >= 1
    assert record.rows > 0
    assert (record.lost, record.doubled) == (0, 0)
