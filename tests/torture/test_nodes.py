"""Does a run get over the death of a node? `python -m tests.torture` kills twenty."""

from __future__ import annotations

import pytest

from tests.torture.apart import run_apart
from tests.torture.nodes import torture_nodes
from tests.torture.scenarios import FIRST


@pytest.mark.ray
def test_a_run_that_loses_a_node_for_good_ends_well_with_the_same_rows():
    record = run_apart(torture_nodes, 1, kills=1, images=15, kinds=[FIRST], is_replaced=False)
    assert record.faults == {"node killed in a first run": 1}
    assert record.rows > 15
    assert (record.lost, record.doubled, record.reread) == (0, 0, 0)
