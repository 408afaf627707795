"""Do runs over tars get over kills? `python -m tests.torture` kills more of them."""

from __future__ import annotations

from tests.torture.tars import torture_tars


def test_a_run_over_tars_and_its_updates_get_over_a_kill_each():
    record = torture_tars(1, kills=2, kills_each=1)
    assert sum(record.faults.values()) >= 2
    assert record.rows > 3 * 30
    assert (record.lost, record.doubled, record.reread) == (0, 0, 0)
