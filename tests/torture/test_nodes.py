"""Does a run get over the death of a node? `python -m tests.torture` kills sixty."""

from __future__ import annotations

import pytest

from tests.torture.apart import run_apart
from tests.torture.nodes import torture_nodes
from tests.torture.scenarios import KINDS


@pytest.mark.ray
def test_runs_updates_and_retries_that_lose_a_node_end_well_with_the_same_rows():
    record = run_apart(torture_nodes, 1, kills=len(KINDS), images=30, is_replaced=False)
    assert record.faults == {
        "node killed in a first run": 1,
        "node killed in an update": 1,
        "node killed in a retry": 1,
    }
    assert record.rows > 30 * len(KINDS)
    assert (record.lost, record.doubled, record.reread) == (0, 0, 0)
