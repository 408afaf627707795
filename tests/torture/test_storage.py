"""Does a whole run get over a bad network? `python -m tests.torture` has longer ones."""

from __future__ import annotations

import pytest

from tests.faults.plan import Fault
from tests.torture.storage import torture_run


@pytest.mark.s3
def test_a_run_and_its_update_behind_a_faulty_proxy_have_the_rows_of_a_good_day():
    compared, counts = torture_run(1, images=25, stall_s=1.0)
    kinds = {fault for fault, _ in counts}
    assert sum(counts.values()) >= 5
    assert Fault.SLOW_DOWN in kinds
    assert compared.rows > 25
    assert (compared.lost, compared.doubled) == (0, 0)
